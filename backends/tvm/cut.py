"""A model of fixed shapes as parts: what TVM takes, and between it what ONNX Runtime runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc import backends
from lwc.backends.tvm.partition import Region, partition
from lwc.backends.tvm.refusals import Findings, find_refusals
from lwc.backends.tvm.work import label, microseconds
from lwc.compiler.analysis.shapes import forget_inner_shapes
from lwc.compiler.core.backend import Array
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target

LEAST_WORK_US = 100.0  # two crossings take some 20; a region must win as much
TOO_SMALL = "TVM could run it, but what it could run with it takes less time than handing the values over."
MOST_SEARCHES = 4  # for what keeps a region from compiling; then the region is given up


@dataclass(frozen=True)
class Part:
    """A model of its own. taken: by TVM, else by ONNX Runtime"""

    model: Model
    taken: bool


@dataclass(frozen=True)
class Cut:
    """parts: in the order they run;  refused: nodes that TVM is not given, by name, with the reason"""

    parts: tuple[Part, ...]
    refused: Mapping[str, str]


def cut(
    model: Model, target: Target, refusal: Callable[[Model], str], slower: Callable[[Model], str] = lambda part: ""
) -> Cut:
    """The fewest parts that TVM and ONNX Runtime run in turn.

    model: of fixed shapes, its types and shapes inferred;  refusal: why TVM cannot compile a part, empty when it can
    slower: why a part that it can compile should not run there, empty where it should
    """
    graph = _Graph(model.fork(), find_refusals(model), target)
    for attempt in itertools.count():
        regions = graph.regions()
        parts = [Part(graph.part(region), region.taken) for region in regions]
        failed = next((k for k, part in enumerate(parts) if part.taken and refusal(part.model)), None)
        if failed is None:
            slow = {k: reason for k, part in enumerate(parts) if part.taken and (reason := slower(part.model))}
            if not slow:
                break
            for k, reason in slow.items():
                graph.give_away(regions[k].nodes, reason)
        else:
            nodes = regions[failed].nodes
            culprits = _culprits(graph, nodes, refusal) if attempt < MOST_SEARCHES else nodes
            graph.refuse(culprits, refusal(graph.part(Region(culprits, True))))
    return Cut(tuple(parts), graph.reasons())


def _culprits(graph: _Graph, nodes: tuple[int, ...], refusal: Callable[[Model], str]) -> tuple[int, ...]:
    """The first few of these nodes that cannot be compiled: halves are tried, which are convex like the whole."""
    while len(nodes) > 1:
        halves = nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]
        failing = next((half for half in halves if refusal(graph.part(Region(half, True)))), None)
        if failing is None:
            break
        nodes = failing
    return nodes


class _Graph:
    """A model with what is known of its nodes and values; it is changed."""

    def __init__(self, model: Model, found: Findings, target: Target) -> None:
        self._model = model
        graph = model.graph
        nodes = list(graph)
        self._refused = {nodes[index]: reason for index, reason in found.refused.items()}
        self._fold(found.known)
        self._annotate(found.shapes)
        self._ask_for_types(target)
        self._nodes = list(graph)
        self._index = {node: k for k, node in enumerate(self._nodes)}
        self._readers: dict[ir.Value, set[int]] = {}
        for k, node in enumerate(self._nodes):
            for value in _read(node):
                self._readers.setdefault(value, set()).add(k)

    def reasons(self) -> dict[str, str]:
        """By name of the node that TVM is not given."""
        given = (self._nodes[index] for region in self.regions() if not region.taken for index in region.nodes)
        return {label(node): self._refused.get(node, TOO_SMALL) for node in given}

    def refuse(self, nodes: Collection[int], reason: str) -> None:
        """These nodes, and, where it is one alone, all that are like it."""
        kinds = {_kind(self._nodes[index]) for index in nodes} if len(nodes) == 1 else set()
        alike = [index for index, node in enumerate(self._nodes) if _kind(node) in kinds]
        self.give_away((*alike, *nodes), reason)

    def give_away(self, nodes: Collection[int], reason: str) -> None:
        """These nodes alone."""
        self._refused.update({self._nodes[index]: reason for index in nodes})

    def regions(self) -> list[Region]:
        """What runs together, in order."""
        makers = [[value.producer() for value in _read(node)] for node in self._nodes]
        before = [{self._index[maker] for maker in found if maker is not None} for found in makers]
        refused = [self._index[node] for node in self._refused]
        return partition(before, refused, [microseconds(node) for node in self._nodes], LEAST_WORK_US)

    def part(self, region: Region) -> Model:
        """The nodes of a region as a model that takes and gives what crosses its border."""
        graph, inside = self._model.graph, set(region.nodes)
        members = [self._nodes[index] for index in region.nodes]
        made = dict.fromkeys(value for node in members for value in node.outputs)
        read = dict.fromkeys(value for node in members for value in _read(node))
        results = set(graph.outputs)
        inputs = [value for value in read if value not in made and not value.is_initializer()]
        outputs = [value for value in made if value in results or self._readers.get(value, set()) - inside]
        functions = [function.clone() for function in self._model.ir.functions.values()]
        whole = self._model.ir
        part = ir.Model(
            ir.convenience.extract(graph, inputs, outputs), ir_version=whole.ir_version, functions=functions,
            metadata_props=dict(whole.metadata_props),
        )  # fmt: skip
        if not region.taken:
            forget_inner_shapes(part)
            if any(_subgraphs(node) for node in members):
                _open_dimensions(part)
        return Model(part, self._model.name)

    def _fold(self, known: Mapping[str, Array]) -> None:
        """Make initializers of values that are always the same, so that no part waits for another one for them."""
        graph = self._model.graph
        results = set(graph.outputs)
        for node in reversed(list(graph)):
            if node in self._refused or any(value.name not in known or value in results for value in node.outputs):
                continue
            for value in node.outputs:
                name, value.name = value.name or "", None
                tensor = ir.tensor(known[name], name=name)
                kind, shape = ir.TensorType(tensor.dtype), ir.Shape(known[name].shape)
                constant = ir.Value(name=name, const_value=tensor, type=kind, shape=shape)
                ir.convenience.replace_all_uses_with(value, constant)
                graph.register_initializer(constant)
            graph.remove(node, safe=True)

    def _annotate(self, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Types and shapes as TVM finds them where ONNX does not."""
        for value in (value for node in self._model.graph for value in node.outputs):
            known = shapes.get(value.name or "")
            if known is not None and (value.type is None or value.shape is None or not value.shape.is_static()):
                dtype, sizes = known
                value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))), ir.Shape(sizes)

    def _ask_for_types(self, target: Target) -> None:
        """Where ONNX does not infer a type, as behind operators of other domains, ONNX Runtime knows it."""
        made = {value.name: value for node in self._model.graph for value in node.outputs}
        untyped = [name for name, value in made.items() if name and value.type is None]
        if not untyped:
            return
        session = backends.get(backends.REFERENCE).session(self._model, target, untyped, lean=True)
        for port in session.outputs:
            if port.name in untyped and port.dtype != np.object_:
                made[port.name].type = ir.TensorType(ir.DataType.from_numpy(port.dtype))


def _open_dimensions(model: ir.Model) -> None:
    """Leave the sizes of inputs open, and what follows from them in branches.

    A branch that is not taken at these sizes may contradict itself, which ONNX Runtime (1.31) refuses when it can infer
    it.
    """
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([None] * len(value.shape))
    for graph in model.graph.subgraphs():
        for value in (value for node in graph for value in node.outputs):
            value.shape = None


def _kind(node: ir.Node) -> tuple[object, ...]:
    """Equal for nodes that compile alike: operator, attributes, types and shapes of what they take."""
    attributes = tuple(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items()))
    taken = tuple((str(value.dtype), str(value.shape)) if value is not None else None for value in node.inputs)
    return node.domain, node.op_type, attributes, taken


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """Values that the node takes, and those of the graph around it that its subgraphs take."""
    yield from (value for value in node.inputs if value is not None)
    for graph in _subgraphs(node):
        values = (value for member in graph.all_nodes() for value in member.inputs if value is not None)
        yield from (value for value in (*values, *graph.outputs) if value.graph is node.graph)


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found

