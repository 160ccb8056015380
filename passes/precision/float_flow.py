"""Which nodes compute in a shorter float format once the plan's sites do: decided before anything is rewritten.

A site takes its bias and activation along, and a site that holds subgraphs every node in them that can. Operators
that commute with rounding follow where that needs no more casts:

    f(round(x)) = round(f(x))        values move, or f is monotone (Relu, Max, Clip ...)

Scope: sites of the main graph, and the subgraphs of sites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import constant, graphs_of, is_op
from lwc.passes.precision.float_kernels import has_kernel
from lwc.passes.precision.float_limits import reason_against
from lwc.passes.precision.float_types import Conversion, accepts, conversion, holds_graphs

Use = tuple[ir.Node, int]

COMMUTES = frozenset(
    {
        "Abs", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
        "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape",
        "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip


@dataclass(eq=False)
class FloatFlow:
    """What will be converted in one model.

    chosen: the plan's sites and their formats;  keep_io: the main graph's inputs and outputs stay float32
    headroom: see ConvertFloats
    conversions: by node;  inputs: of the main graph that change type;  refused: sites that stay, and why
    """

    model: ir.Model
    chosen: Mapping[Site, ir.DataType]
    ctx: PassContext
    keep_io: bool
    headroom: float
    conversions: dict[ir.Node, Conversion] = field(default_factory=dict)
    inputs: dict[ir.Value, ir.DataType] = field(default_factory=dict)
    refused: dict[Site, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._planned = {site.name for site in self.ctx.plan.choices}

    def decide(self) -> FloatFlow:
        """Fill in what is decided."""
        nodes = {node.name: node for node in self.model.graph}
        stats = {site.name: layer for site, layer in self.ctx.stats.items()}
        for site, dtype in self.chosen.items():
            node = nodes.get(site.name)
            reason = "the main graph has no node of this name" if node is None else self._take(node, dtype, stats)
            if reason:
                self.refused[site] = reason
        for dtype in dict.fromkeys(found.dtype for found in self.conversions.values()):
            self._follow(dtype)
        return self

    def reads_short(self, node: ir.Node, index: int) -> bool:
        """Whether this input is converted."""
        return node in self.conversions and index in self.conversions[node].inputs

    def takes_any(self, node: ir.Node, dtype: ir.DataType) -> bool:
        """Whether a reader of a float32 value can read the short one as well, and gives the same."""
        return is_op(node, "Cast", "Shape", "Size") and accepts(node, 0, self.model.opset_imports, dtype)

    def _take(self, node: ir.Node, dtype: ir.DataType, stats: Mapping[str, LayerStats]) -> str:
        """Convert a site; why it cannot."""
        if holds_graphs(node):
            taken = [self._judge(inner, dtype, None) for inner in _inside(node)]
            return "" if "" in taken else "nothing in its subgraphs can be converted"
        unit = unit_of(node)
        reason = self._judge(node, dtype, stats.get(node.name or ""))
        if not reason and isinstance(unit, Unit):
            for part in unit.tail:
                if part.name in self._planned or self._judge(part, dtype, stats.get(part.name or "")):
                    break
        return reason

    def _judge(self, node: ir.Node, dtype: ir.DataType, stats: LayerStats | None) -> str:
        found = self._possible(node, dtype, stats)
        if isinstance(found, str):
            return found
        self.conversions[node] = found
        return ""

    def _possible(self, node: ir.Node, dtype: ir.DataType, stats: LayerStats | None) -> Conversion | str:
        found = conversion(node, self.model.opset_imports, dtype)
        if isinstance(found, str):
            return found
        if not has_kernel(self.ctx.target.device, node.op_type, dtype):
            return f"no runtime computes {node.op_type} in {dtype.name.lower()} on {self.ctx.target.device}"
        return reason_against(node, found, stats, self.headroom, self.ctx.solved) or found

    def _follow(self, dtype: ir.DataType) -> None:
        """Add followers; the graph's inputs change too, unless kept, where nobody reads them as float32."""
        candidates = self._candidates(dtype)
        wanted = self._wanted(dtype, candidates)
        free = [] if self.keep_io else [v for v in self.model.graph.inputs if not v.is_initializer() and v in wanted]
        inputs = {value for value in free if value.dtype == ir.DataType.FLOAT}
        while True:
            followers = self._followers(dtype, candidates, wanted, inputs)
            known = {**self.conversions, **followers}
            read = {value for value in inputs if any(self._reads_float(u, known, {}, wanted) for u in value.uses())}
            if not read:
                break
            inputs -= read
        self.conversions.update(followers)
        self.inputs.update(dict.fromkeys(inputs, dtype))

    def _candidates(self, dtype: ir.DataType) -> dict[ir.Node, Conversion]:
        found: dict[ir.Node, Conversion] = {}
        for node in self.model.graph:
            if node.op_type not in COMMUTES or node in self.conversions or node.name in self._planned:
                continue
            how = self._possible(node, dtype, None)
            if isinstance(how, Conversion):
                found[node] = how
        return found

    def _wanted(self, dtype: ir.DataType, candidates: Mapping[ir.Node, Conversion]) -> set[ir.Value]:
        """Values that reach a converted node of this format, if only through candidates."""
        pending = [value for node, how in self.conversions.items() if how.dtype == dtype for value in _read(node, how)]
        if not self.keep_io:
            pending += list(self.model.graph.outputs)
        wanted: set[ir.Value] = set()
        while pending:
            value = pending.pop()
            if value in wanted:
                continue
            wanted.add(value)
            node = value.producer()
            if node is not None and node in candidates:
                pending += _read(node, candidates[node])
        return wanted

    def _followers(
        self,
        dtype: ir.DataType,
        candidates: Mapping[ir.Node, Conversion],
        wanted: set[ir.Value],
        inputs: set[ir.Value],
    ) -> dict[ir.Node, Conversion]:
        made = {v for node, how in self.conversions.items() if how.dtype == dtype for v in _made(node, how)} | inputs
        known = dict(self.conversions)
        for node, how in candidates.items():
            data = [value for value in _read(node, how) if constant(value) is None]
            if not data or any(value not in made for value in data):
                continue
            known[node] = how
            outputs = _made(node, how)
            leaving = sum(self._is_read_as_float(value, known, candidates, wanted) for value in outputs)
            otherwise = sum(not self._is_read_as_float(value, known, candidates, wanted) for value in set(data))
            otherwise += sum(value in wanted for value in outputs)
            if any(value in wanted for value in outputs) and leaving <= otherwise:
                made.update(outputs)
            else:
                del known[node]
        return {node: how for node, how in known.items() if node not in self.conversions}

    def _is_read_as_float(
        self,
        value: ir.Value,
        known: Mapping[ir.Node, Conversion],
        candidates: Mapping[ir.Node, Conversion],
        wanted: set[ir.Value],
    ) -> bool:
        leaves = value.is_graph_output() and (self.keep_io or value.graph is not self.model.graph)
        return leaves or any(self._reads_float(use, known, candidates, wanted) for use in value.uses())

    def _reads_float(
        self,
        use: Use,
        known: Mapping[ir.Node, Conversion],
        candidates: Mapping[ir.Node, Conversion],
        wanted: set[ir.Value],
    ) -> bool:
        node, index = use
        if is_op(node, "Cast", "Shape", "Size"):
            return False
        how = known.get(node)
        if how is None and any(output in wanted for output in node.outputs):
            how = candidates.get(node)
        return how is None or index not in how.inputs


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of its subgraphs, and of those in them, that hold none themselves."""
    for attribute in node.attributes.values():
        for graph in graphs_of(attribute):
            yield from (inner for inner in graph.all_nodes() if not holds_graphs(inner))


def _read(node: ir.Node, how: Conversion) -> list[ir.Value]:
    """The values at converted inputs."""
    return [value for k in how.inputs if (value := node.inputs[k]) is not None]


def _made(node: ir.Node, how: Conversion) -> list[ir.Value]:
    """The values at converted outputs."""
    return [node.outputs[k] for k in how.outputs]
