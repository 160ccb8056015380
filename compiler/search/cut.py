"""Cut a graph into segments and parts that run on their own, so that a change is re-run from where it is made on.

The nodes of the main graph stand in order. A cut lies between two of them; what was made before it and is read
behind it is live there. Between two cuts lies a segment with some sites:

    live values | segment                                     | suffix
                | x -> site -> ... (downstream of the site)  -> y -> ... -> outputs

Subgraphs belong to their node, and what they capture is read by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site

_UNKNOWN_ELEMENTS = 1 << 20  # what a value of unknown shape counts as when cuts are compared
_NOT_FED = frozenset({ir.DataType.UNDEFINED, ir.DataType.STRING})


@dataclass(frozen=True, eq=False)
class Part:
    """Some nodes with what they read from outside, and what others read of theirs (or the graph returns)."""

    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]

    def cuttable(self) -> bool:
        """Whether the part has results, and all that crosses its border can be fed and fetched."""
        return bool(self.outputs) and all(is_fed(value) for value in (*self.inputs, *self.outputs))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(value.name or "" for value in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(value.name or "" for value in self.outputs)


@dataclass(frozen=True)
class Segment:
    """Nodes start .. stop - 1 with the sites among them. live: activations live at its start, in order of making."""

    start: int
    stop: int
    sites: tuple[Site, ...]
    live: tuple[ir.Value, ...]


class Cuts:
    """The segments of a model's main graph, and the parts of it that a change needs."""

    def __init__(self, model: Model, sites: Sequence[Site], sites_per_segment: int) -> None:
        self.model = model
        self.nodes = tuple(model.graph)
        self.index = {node: k for k, node in enumerate(self.nodes)}
        self.outputs = frozenset(model.graph.outputs)
        own = {*model.graph.inputs, *model.graph.initializers.values()}
        own.update(value for node in self.nodes for value in node.outputs)
        read = {node: tuple(dict.fromkeys(_values_read(node, own))) for node in self.nodes}
        self._reads = {node: tuple(v for v in values if not v.is_initializer()) for node, values in read.items()}
        self._constants = {node: tuple(v for v in values if v.is_initializer()) for node, values in read.items()}
        self._readers = _readers(self.nodes, self._reads)
        by_name = {node.name: node for node in self.nodes}
        self._units = {site: self._unit_nodes(by_name[site.name]) for site in sites if site.name in by_name}
        self.segments = tuple(self._segments(sites_per_segment))
        self._segment_of = {site: k for k, segment in enumerate(self.segments) for site in segment.sites}

    def segment_of(self, site: Site) -> int | None:
        """Index of the segment a site lies in; None for a site the graph does not have."""
        return self._segment_of.get(site)

    def unit(self, site: Site) -> Part:
        """The site's node with the nodes that its kernel swallows."""
        return self.part(self._units[site])

    def downstream(self, sites: Iterable[Site], stop: int | None = None) -> Part:
        """All nodes before `stop` (None: to the end) that the sites' results reach, their own units included."""
        first = {node for site in sites for node in self._units[site]}
        return self.part(self._reached(min(self.index[node] for node in first), stop, first, set()))

    def behind(self, values: Iterable[ir.Value], start: int, stop: int | None = None) -> Part:
        """All nodes start .. stop - 1 (None: to the end) that these values reach."""
        return self.part(self._reached(start, stop, set(), set(values)))

    def between(self, given: Iterable[ir.Value], wanted: Iterable[ir.Value]) -> Part:
        """The nodes that make `wanted` out of `given`; its outputs are those wanted ones that had to be made."""
        known = set(given)
        needed = [value for value in dict.fromkeys(wanted) if value not in known]
        pending = list(needed)
        chosen: set[ir.Node] = set()
        while pending:
            node = pending.pop().producer()
            if node is not None and node not in chosen:
                chosen.add(node)
                pending.extend(value for value in self._reads[node] if value not in known)
        nodes = sorted(chosen, key=self.index.__getitem__)
        return Part(tuple(nodes), self._inputs(nodes, known), tuple(needed))

    def part(self, nodes: Sequence[ir.Node]) -> Part:
        """These nodes, which stand in order, with their border."""
        inside = {self.index[node] for node in nodes}
        outputs = [
            value
            for node in nodes
            for value in node.outputs
            if value in self.outputs or not inside.issuperset(self._readers.get(value, ()))
        ]
        return Part(tuple(nodes), self._inputs(nodes, set()), tuple(outputs))

    def submodel(self, part: Part) -> Model:
        """A model of the part alone; tensors, names and shapes are those of the whole."""
        constants = dict.fromkeys(value for node in part.nodes for value in self._constants[node])
        graph, model = self.model.graph, self.model.ir
        view = ir.GraphView(
            part.inputs,
            part.outputs,
            nodes=part.nodes,
            initializers=tuple(constants),
            opset_imports=dict(graph.opset_imports),
            name=graph.name,
        )
        functions = [function.clone() for function in model.functions.values()]
        return Model(ir.Model(view.clone(), ir_version=model.ir_version, functions=functions), self.model.name)

    def _inputs(self, nodes: Sequence[ir.Node], known: Set[ir.Value]) -> tuple[ir.Value, ...]:
        made = {value for node in nodes for value in node.outputs} - known
        return tuple(dict.fromkeys(value for node in nodes for value in self._reads[node] if value not in made))

    def _reached(self, start: int, stop: int | None, first: set[ir.Node], reached: set[ir.Value]) -> list[ir.Node]:
        nodes = []
        for node in self.nodes[start:stop]:
            if node in first or any(value in reached for value in self._reads[node]):
                nodes.append(node)
                reached.update(node.outputs)
        return nodes

    def _unit_nodes(self, node: ir.Node) -> list[ir.Node]:
        unit = unit_of(node)
        tail = unit.tail if isinstance(unit, Unit) else ()
        return sorted((node, *tail), key=self.index.__getitem__)

    # Where to cut

    def _segments(self, sites_per_segment: int) -> Iterator[Segment]:
        cuts = [0, *self._positions(sites_per_segment), len(self.nodes)]
        for start, stop in itertools.pairwise(cuts):
            inside = tuple(s for s, unit in self._units.items() if start <= self.index[unit[0]] < stop)
            yield Segment(start, stop, inside, self._live(start))

    def _positions(self, wanted: int) -> Iterator[int]:
        """After so many sites, the cheapest cut is taken that comes before as many again."""
        spans = [(self.index[unit[0]], self.index[unit[-1]]) for unit in self._units.values()]
        straddled = {k for first, last in spans for k in range(first + 1, last + 1)}
        starts = {first for first, _ in spans}
        best: tuple[float, int] | None = None
        sites, costs = 0, self._costs()
        for position in range(1, len(self.nodes)):
            sites += position - 1 in starts
            cost = costs[position]
            if sites >= wanted and position not in straddled and cost is not None and (best is None or cost < best[0]):
                best = cost, position
            if best is not None and sites >= 2 * wanted:
                yield best[1]
                sites = sum(best[1] <= first < position for first in starts)
                best = None

    def _costs(self) -> list[float | None]:
        """Elements of all values live at each position; None where one of them cannot be fed."""
        sizes = [0.0] * (len(self.nodes) + 2)
        barred = [0] * (len(self.nodes) + 2)
        for value, readers in self._readers.items():
            producer, end = value.producer(), readers[-1] + 1
            made = 0 if producer is None else self.index[producer] + 1
            sizes[made] += _elements(value)
            sizes[end] -= _elements(value)
            barred[made] += not is_fed(value)
            barred[end] -= not is_fed(value)
        costs: list[float | None] = []
        size, bars = 0.0, 0
        for position in range(len(self.nodes) + 1):
            size += sizes[position]
            bars += barred[position]
            costs.append(None if bars else size)
        return costs

    def _live(self, position: int) -> tuple[ir.Value, ...]:
        inputs = [value for value in self.model.graph.inputs if not value.is_initializer()]
        made = [value for node in self.nodes[:position] for value in node.outputs]
        return tuple(value for value in (*inputs, *made) if self._readers.get(value, (-1,))[-1] >= position)


def is_fed(value: ir.Value) -> bool:
    """Whether the value is a tensor of numbers, its type known."""
    return bool(value.name) and isinstance(value.type, ir.TensorType) and value.type.dtype not in _NOT_FED


def _values_read(node: ir.Node, own: Set[ir.Value]) -> Iterator[ir.Value]:
    """Inputs, and what the node's subgraphs capture of these values."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph(), own)
        elif attribute.type == ir.AttributeType.GRAPHS:
            for inner in attribute.as_graphs():
                yield from _captured(inner, own)


def _captured(inner: ir.Graph, own: Set[ir.Value]) -> Iterator[ir.Value]:
    for part in (inner, *inner.subgraphs()):
        for node in part:
            yield from (value for value in node.inputs if value is not None and value in own)
        yield from (value for value in part.outputs if value in own)


def _readers(
    nodes: Sequence[ir.Node], reads: Mapping[ir.Node, tuple[ir.Value, ...]]
) -> dict[ir.Value, tuple[int, ...]]:
    """Positions of the nodes that read each value, in order."""
    found: dict[ir.Value, list[int]] = {}
    for k, node in enumerate(nodes):
        for value in reads[node]:
            found.setdefault(value, []).append(k)
    return {value: tuple(readers) for value, readers in found.items()}


def _elements(value: ir.Value) -> float:
    if value.shape is None:
        return _UNKNOWN_ELEMENTS
    count = 1.0
    for dim in value.shape:
        count *= dim if isinstance(dim, int) else 1
    return count
