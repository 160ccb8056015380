"""Half precision: nodes of the plan compute in fp16 or bf16, what surrounds them in float32.

    y = Cast_float32(f(Cast_fp16(x), W_fp16))

A value is cast once for each format that somebody reads it in, where it is made, and not at all between nodes of one
format; pairs of casts that undo each other vanish. Weights are converted once. A node stays float32, with the reason,
when its operator's schema does not allow the format, when numbers that it reads or writes do not fit (statistics,
constants), or when no runtime of the target computes it so. Float32 views keep the names of values.

Scope: sites of the main graph; a site that holds subgraphs (If, Loop, Scan) converts what is in them and keeps what
goes in and out of them in float32, as the graph's own inputs and outputs unless `keep_io` is off.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import BFloat16, Float16, Site
from lwc.passes.edit import Names, add_initializer, constant, is_op, redirect
from lwc.passes.precision.float_flow import FloatFlow

FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class ConvertFloats(Pass):
    """Applies Float16 and BFloat16 at the plan's sites, but for a format that the target takes as a hint.

    keep_io: the main graph's inputs and outputs stay float32; else those change that nobody reads as float32
    headroom: activations may grow by this factor over the statistics before the format overflows
    """

    name: ClassVar[str] = "convert_floats"
    keep_io: bool = True
    headroom: float = 2.0

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen: dict[Site, ir.DataType] = {}
        if not ctx.target.fp16_by_hint:
            chosen.update({site: ir.DataType.FLOAT16 for site, _ in ctx.plan.sites(Float16)})
        if not ctx.target.bf16_by_hint:
            chosen.update({site: ir.DataType.BFLOAT16 for site, _ in ctx.plan.sites(BFloat16)})
        if not chosen:
            return Outcome()
        flow = FloatFlow(model, chosen, ctx, self.keep_io, self.headroom).decide()
        _Rewriter(flow).run()
        changed = tuple(site for site in chosen if site not in flow.refused)
        return Outcome(changed, tuple(Skip(site, reason) for site, reason in flow.refused.items()))


class _Rewriter:
    """One rewrite of one model to what its flow says."""

    def __init__(self, flow: FloatFlow) -> None:
        self._flow = flow
        self._model = flow.model
        self._memo: MutableMapping[Any, Any] = flow.ctx.solved
        self._names = Names(flow.model)
        self._short: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._replaced: dict[ir.Value, None] = {}
        self._idle: dict[ir.Node, None] = {}
        self._made: dict[ir.Value, ir.DataType] = dict(flow.inputs)

    def run(self) -> None:
        for node, how in self._flow.conversions.items():
            self._made.update({node.outputs[k]: how.dtype for k in how.outputs})
            if is_op(node, "Cast"):
                node.attributes["to"] = ir.AttrInt64("to", int(how.dtype))
        for value, dtype in self._made.items():
            value.type = ir.TensorType(dtype)
        for node, how in self._flow.conversions.items():
            for k in how.inputs:
                read = node.inputs[k]
                assert read is not None
                node.replace_input_with(k, self._in_short(read, how.dtype, node))
        outputs = self._graph_outputs()
        for value, dtype in self._made.items():
            self._give_float(value, dtype, outputs.get(value, []))
        self._drop_casts()
        for value in self._replaced:
            if not value.uses() and not value.is_graph_output() and value.graph is not None:
                value.graph.initializers.pop(value.name or "", None)

    def _in_short(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in a short format, cast once for all readers."""
        if value.dtype == dtype:
            return value
        key = (value, dtype)
        if key not in self._short:
            found = self._constant(value, dtype) or self._source(value, dtype)
            self._short[key] = found or self._cast(value, dtype, f"{value.name}.{dtype.short_name()}", reader)
        return self._short[key]

    def _constant(self, value: ir.Value, dtype: ir.DataType) -> ir.Value | None:
        """A constant converted; forks that share the tensor share the result."""
        tensor = constant(value)
        if tensor is None or value.graph is None:
            return None
        self._replaced[value] = None
        key = ("float", id(tensor), dtype)
        if key not in self._memo:
            with np.errstate(over="ignore", under="ignore"):
                self._memo[key] = (tensor, tensor.numpy().astype(dtype.numpy()))
        name = self._names.claim(f"{value.name}.{dtype.short_name()}")
        assert isinstance(value.graph, ir.Graph)
        return add_initializer(value.graph, name, self._memo[key][1])

    def _source(self, value: ir.Value, dtype: ir.DataType) -> ir.Value | None:
        """What a Cast made the float32 value of, when that has the format already: to float32 and back is nothing."""
        producer = value.producer()
        if not is_op(producer, "Cast") or producer is None or producer.inputs[0] is None:
            return None
        source = producer.inputs[0]
        if source.dtype != dtype or value.dtype != FLOAT:
            return None
        self._idle[producer] = None
        return source

    def _cast(self, value: ir.Value, dtype: ir.DataType, name: str, owner: ir.Node) -> ir.Value:
        """A Cast right behind what makes the value. owner: the node that its time belongs to"""
        node = ir.node("Cast", [value], {"to": int(dtype)})
        node.name = node.outputs[0].name = self._names.claim(name)
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), value.shape
        node.metadata_props[SITE_KEY] = owner.name or ""
        producer, graph = value.producer(), value.graph
        assert graph is not None
        if producer is None:
            graph.insert_before(graph[0], node)
        else:
            graph.insert_after(producer, node)
        return node.outputs[0]

    def _give_float(self, value: ir.Value, dtype: ir.DataType, outputs: list[tuple[ir.Graph, int]]) -> None:
        """Let the readers that need float32, and graph outputs, have a view that takes over the name."""
        flow = self._flow
        readers = [
            use
            for use in value.uses()
            if not flow.reads_short(use.node, use.idx) and not flow.takes_any(use.node, dtype)
        ]
        producer = value.producer()
        if producer is None or not (readers or outputs):
            return
        name = value.name or ""
        view = self._cast(value, FLOAT, f"{name}.float", producer)
        for use in readers:
            use.node.replace_input_with(use.idx, view)
        for graph, index in outputs:
            graph.outputs[index] = view
        value.name = self._names.claim(f"{name}.{dtype.short_name()}")
        view.name = name

    def _graph_outputs(self) -> dict[ir.Value, list[tuple[ir.Graph, int]]]:
        """Where values leave graphs that give float32."""
        found: dict[ir.Value, list[tuple[ir.Graph, int]]] = {}
        for graph in self._model.graphs():
            if graph is not self._model.graph or self._flow.keep_io:
                for index, value in enumerate(graph.outputs):
                    found.setdefault(value, []).append((graph, index))
        return found

    def _drop_casts(self) -> None:
        """Casts of the model that a converted value made idle, and those whose source is read instead."""
        for value, dtype in self._made.items():
            for node in [use.node for use in value.uses() if is_op(use.node, "Cast")]:
                if node.outputs[0].dtype == dtype and not node.outputs[0].is_graph_output():
                    redirect(node.outputs[0], value)
                    self._idle[node] = None
        for node in self._idle:
            if node.graph is not None and not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                node.graph.remove(node, safe=True)
