"""Rewrite a graph to the formats decided for it: the work behind static int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.units import Unit, array_of, factor
from lwc.compiler.core.plan import Range
from lwc.compiler.core.target import Target
from lwc.passes.edit import redirect
from lwc.passes.precision.followers import Shuffle, channel_shuffle
from lwc.passes.precision.formats import Formats
from lwc.passes.precision.integers import Codes, Scale, Writer
from lwc.passes.precision.lowered import Lowered
from lwc.passes.precision.lowerings import lower
from lwc.passes.precision.weights import Weights


class Rewriter:
    """One rewrite of one graph, in graph order; replaced nodes go at the end, when nobody reads them.

    methods: weight range by node name;  means: E[x] per channel of layers whose biases make up for rounded weights
    """

    def __init__(
        self,
        model: ir.Model,
        formats: Formats,
        methods: Mapping[str, str],
        means: Mapping[str, NDArray[np.float64]],
        target: Target,
    ) -> None:
        self.graph = model.graph
        self.formats = formats
        self.methods = methods
        self.means = dict(means)
        self.symmetric = target.symmetric_activations
        self.byte_ops = target.byte_ops
        self.writer = Writer(model)
        self.power_of_two = target.power_of_two_scales
        self.weights = Weights(self.writer, target.reduce_range, self.power_of_two)
        self._codes: dict[ir.Value, Codes] = {}
        self._dead: dict[ir.Node, None] = {}
        self._kept: set[ir.Node] = set()
        self._unread_before = {name for name, value in self.graph.initializers.items() if not value.uses()}
        self._renames: list[tuple[ir.Value, str]] = []

    def run(self) -> None:
        for node in list(self.graph):
            if node in self.formats.units:
                self._rewrite_unit(self.formats.units[node])
            elif node in self.formats.followers:
                self._rewrite_follower(node)
        for node in reversed(self._dead):
            self.graph.remove(node, safe=True)
        for value, name in self._renames:
            value.name = name
        self._drop_unread_constants()

    # Values

    def codes(self, value: ir.Value) -> Codes:
        """The integer form of a value, quantized where it is made when nothing made it yet."""
        if value not in self._codes:
            scale = self._scale(value, self.formats.ranges[value])
            node = self.writer.quantize(value, scale, value)
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], node)
            else:
                self.graph.insert_after(producer, node)
            self._codes[value] = Codes(node.outputs[0], scale)
        return self._codes[value]

    def let_stand_for(self, value: ir.Value, codes: Codes) -> None:
        """Readers of `value` find these codes."""
        self._codes[value] = codes

    def output_scale(self, unit: Unit) -> Scale:
        """The scale a unit writes its output with."""
        return self._scale(unit.output, self.formats.ranges[unit.output], one_sided=unit.activation is not None)

    def dequantized(self, codes: Codes, like: ir.Value, before: ir.Node) -> ir.Value:
        """A float view of codes, for one reader."""
        node = self.writer.dequantize(codes, like)
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def constant_codes(self, value: ir.Value, scale: Scale | None = None) -> Codes:
        """A constant operand as integers, of its own range unless a scale is given."""
        array = array_of(value)
        if scale is None:
            low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
            scale = self._scale(value, Range(low, high))
        return Codes(self.writer.constant(f"{value.name}.q", scale.codes(array)), scale)

    def is_wide(self, unit: Unit) -> bool:
        """Whether the unit reads or writes 16 bits."""
        return any(value in self.formats.wide for value in (*unit.operands(), unit.output))

    def _scale(self, value: ir.Value, range_: Range, *, one_sided: bool = False) -> Scale:
        bits = 16 if value in self.formats.wide else 8
        return Scale.of(range_, self.symmetric, one_sided, self.power_of_two, bits)

    # Nodes

    def keep(self, node: ir.Node) -> None:
        """A swallowed node that the lowering needs after all."""
        self._kept.add(node)

    def _rewrite_unit(self, unit: Unit) -> None:
        result = lower(self, unit)
        if unit in self.formats.clipping:
            result = self._clipped(result, unit)
        own = () if result.kept else (unit.node,)
        self._dead.update(dict.fromkeys(node for node in (*own, *unit.tail) if node not in self._kept))
        output = unit.output
        if unit.node not in self.formats.emitting:
            if result.value is not output:
                self._renames.append((result.value, output.name or ""))
                redirect(output, result.value)
        elif result.codes is not None:
            self._publish(output, result.codes)
        else:
            assert result.scale is not None
            assert result.read_as is not None
            node = self.writer.quantize(result.value, result.scale, output)
            producer = result.value.producer()
            assert producer is not None
            self.graph.insert_after(producer, node)
            self._rename_result(result.value, output)
            self._publish(output, Codes(node.outputs[0], result.read_as), node)

    def _clipped(self, result: Lowered, unit: Unit) -> Lowered:
        """The result behind the unit's activation, whose ends are no ends of the codes."""
        last = unit.activation
        assert last is not None
        self.keep(last)
        last.replace_input_with(0, result.value)
        return replace(result, value=unit.output)

    def _rename_result(self, result: ir.Value, output: ir.Value) -> None:
        """The float result takes the name of what it stands for, unless that is a graph output."""
        name = output.name or ""
        if output.is_graph_output():
            self._renames.append((result, self.writer.names.claim(f"{name}.float")))
        elif result is not output:
            self._renames.append((result, name))

    def _rewrite_follower(self, node: ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None
        if node in self._dead:
            return
        codes = self._codes[source]
        shuffle = channel_shuffle(node)
        if shuffle is not None:
            self._gather_channels(shuffle, codes)
            return
        times = factor(node)
        if times is not None:
            step = float(np.float32(codes.scale.step * times))
            self._publish(node.outputs[0], Codes(codes.value, Scale(step, codes.scale.zero, codes.scale.dtype)))
            self._dead[node] = None
            return
        if node.op_type == "Relu":
            zero = self.writer.zero_point(codes.scale, source)
            limited = self.writer.node("Max", [codes.value, zero], node.outputs[0], ".codes")
            limited.outputs[0].type = codes.value.type
            self.graph.insert_before(node, limited)
            self._publish(node.outputs[0], Codes(limited.outputs[0], codes.scale))
            self._dead[node] = None
            return
        node.replace_input_with(0, codes.value)
        if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
            node.resize_inputs(max(3, len(node.inputs)))
            node.replace_input_with(2, self.writer.zero_point(codes.scale, source))
        for output in node.outputs:
            self._publish(output, Codes(output, codes.scale))

    def _gather_channels(self, shuffle: Shuffle, codes: Codes) -> None:
        first, _, last = shuffle.nodes
        order = self.writer.constant(f"{first.name}.order", np.array(shuffle.order, np.int64))
        gather = self.writer.node("Gather", [codes.value, order], last.outputs[0], ".codes", {"axis": 1})
        gather.outputs[0].type = codes.value.type
        self.graph.insert_before(first, gather)
        self._dead.update(dict.fromkeys(shuffle.nodes))
        self._publish(last.outputs[0], Codes(gather.outputs[0], codes.scale))

    def _publish(self, value: ir.Value, codes: Codes, quantizer: ir.Node | None = None) -> None:
        """Let integer readers of `value` find its codes, and the others read them dequantized."""
        self._codes[value] = codes
        name = value.name or ""
        self._let_measure(value, codes)
        readers = [use for use in value.uses() if use.node is not quantizer and not self._finds_codes(*use)]
        is_output = value.is_graph_output()
        if readers or is_output:
            node = self.writer.dequantize(codes, value)
            producer = codes.value.producer()
            assert producer is not None
            self.graph.insert_after(producer, node)
            view = node.outputs[0]
            for use in readers:
                use.node.replace_input_with(use.idx, view)
            for index, output in enumerate(self.graph.outputs):
                if output is value:
                    self.graph.outputs[index] = view
            if is_output or codes.value is value:
                self._renames.append((view, name))
        if codes.value is value:
            value.type = ir.TensorType(ir.DataType.from_numpy(codes.scale.dtype))
            self._renames.append((value, self.writer.names.claim(f"{name}.codes")))

    def _finds_codes(self, node: ir.Node, index: int) -> bool:
        return self.formats.reads_integers(node, index) or node in self._dead

    def _let_measure(self, value: ir.Value, codes: Codes) -> None:
        """Shape and Size do not care what they measure."""
        for node, index in value.uses():
            if node.op_type in ("Shape", "Size") and node.domain == "" and node.graph is self.graph:
                node.replace_input_with(index, codes.value)

    def _drop_unread_constants(self) -> None:
        initializers = self.graph.initializers
        for name, value in list(initializers.items()):
            if name not in self._unread_before and not value.uses() and not value.is_graph_output():
                del initializers[name]
