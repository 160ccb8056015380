"""A model that torch computes, node by node, so that what comes out can be differentiated by its weights.

Scope: main graph and subgraphs. Local functions are refused: canonicalization inlines them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from torch import Tensor

from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.recover.control import CONTROL
from lwc.compiler.recover.operators import DOMAINS, MOST_OUTPUTS, OLDEST_OPSET, OPERATORS, OTHERWISE
from lwc.compiler.recover.operators.attributes import Attributes
from lwc.compiler.recover.operators.dtypes import is_known, to_torch

Values = dict[ir.Value, Tensor]


def refusal(model: Model) -> str:
    """Why the model cannot be computed here, in one sentence that names node and operator; empty when it can."""
    if model.opset < OLDEST_OPSET:
        return f"{model.name}: opset {model.opset} is older than {OLDEST_OPSET}."
    for node in model.nodes():
        reason = _refusal_of(node)
        if reason:
            return f"{model.name}: node '{node.name}' cannot be differentiated: {reason}."
    return ""


def _refusal_of(node: ir.Node) -> str:
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    foreign = node.domain not in DOMAINS or (node.domain == "com.microsoft" and node.op_type in OTHERWISE)
    if foreign or (node.op_type not in OPERATORS and node.op_type not in CONTROL):
        return f"there is no operator {name} in the table of lwc.compiler.recover"
    for value in (*node.inputs, *node.outputs):
        if value is not None and not is_known(value.dtype):
            return f"operator {name} has values of type {value.dtype}"
        if value is not None and isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
            return f"operator {name} has values that are no tensors"
    most = MOST_OUTPUTS.get(node.op_type, len(node.outputs))
    if any(value.uses() or value.is_graph_output() for value in node.outputs[most:]):
        return f"output {most} of {name} is not computed here"
    return ""


@dataclass(frozen=True)
class _Step:
    """A node, and the values that nobody reads after it."""

    node: ir.Node
    attributes: Attributes
    dead: tuple[ir.Value, ...]


class Program:
    """Computes any values of a model's main graph from any others.

    weights: the initializers of the main graph, by name. 16-bit floats are held and computed in 32 bits.
    Raises UnsupportedOperator when an operator is missing; see `refusal`.
    """

    def __init__(self, model: Model) -> None:
        reason = refusal(model)
        if reason:
            raise UnsupportedOperator(reason, "Leave --recover out.")
        self.model = model
        self.weights: dict[str, Tensor] = {}
        self._constants: Values = {}
        self._named: dict[str, ir.Value] = {}
        self._paths: dict[tuple[frozenset[str], tuple[str, ...]], list[_Step]] = {}
        for graph in model.ir.graphs():
            for name, value in graph.initializers.items():
                assert value.const_value is not None
                self._constants[value] = to_torch(value.const_value.numpy())
                if graph is model.graph:
                    self.weights[name] = self._constants[value]
        for value in _values(model.graph):
            self._named[value.name or ""] = value

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs."""
        return [value.name or "" for value in self.model.graph.outputs]

    def reads(self, given: Collection[str], wanted: Sequence[str]) -> set[str]:
        """Names of the weights that it takes to compute the wanted values from those given."""
        steps = self._path(given, wanted)
        return {value.name or "" for step in steps for value in read_by(step.node)} & set(self.weights)

    def run(
        self, given: Mapping[str, Tensor], wanted: Sequence[str], weights: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The wanted values from those given, with some weights exchanged; no node runs that is not needed.

        given, wanted: names of inputs or values of the main graph
        Raises UnsupportedOperator for a use of an operator that is not supported.
        """
        known = dict(self._constants)
        for name, tensor in {**(weights or {}), **given}.items():
            known[self._named[name]] = tensor
        for step in self._path(given, wanted):
            self._compute(step.node, step.attributes, known)
            for value in step.dead:
                known.pop(value, None)
        return {name: known[self._named[name]] for name in wanted}

    def _path(self, given: Collection[str], wanted: Sequence[str]) -> list[_Step]:
        key = (frozenset(given), tuple(wanted))
        if key not in self._paths:
            known = {self._named[name] for name in given}
            results = [self._named[name] for name in wanted]
            self._paths[key] = list(self._steps(needed_nodes(self.model.graph, known, results), {*results, *known}))
        return self._paths[key]

    def _steps(self, nodes: Sequence[ir.Node], kept: set[ir.Value]) -> Iterator[_Step]:
        seen = {*kept, *self._constants}
        last: dict[ir.Node, list[ir.Value]] = {}
        for node in reversed(nodes):
            last[node] = [value for value in {*read_by(node), *node.outputs} if value not in seen]
            seen.update(last[node])
        for node in nodes:
            yield _Step(node, self._attributes(node), tuple(last[node]))

    def _attributes(self, node: ir.Node) -> Attributes:
        return Attributes(node, self.model.ir.opset_imports.get(node.domain, 0))

    def _compute(self, node: ir.Node, attributes: Attributes, known: Values) -> None:
        inputs = [None if value is None else known[value] for value in node.inputs]
        try:
            if node.op_type in CONTROL:
                found: object = CONTROL[node.op_type](
                    lambda graph, fed: self._subgraph(graph, fed, known), attributes, inputs
                )
            else:
                found = OPERATORS[node.op_type](attributes, *inputs)
        except NotImplementedError as error:
            message = f"{self.model.name}: node '{node.name}' cannot be differentiated: {error}."
            raise UnsupportedOperator(message, "Leave --recover out.") from error
        known.update(zip(node.outputs, found if isinstance(found, (tuple, list)) else [found], strict=False))

    def _subgraph(self, graph: ir.Graph, fed: Sequence[Tensor | None], known: Values) -> list[Tensor]:
        inner = dict(known)
        inner.update((value, x) for value, x in zip(graph.inputs, fed, strict=True) if x is not None)
        for node in graph:
            self._compute(node, self._attributes(node), inner)
        return [inner[value] for value in graph.outputs]


def needed_nodes(graph: ir.Graph, known: set[ir.Value], wanted: Sequence[ir.Value]) -> list[ir.Node]:
    """Nodes of the graph, in its order, that the wanted values need besides the known ones."""
    needed: set[ir.Node] = set()
    stack = [value for value in wanted if value not in known]
    while stack:
        node = stack.pop().producer()
        if node is None or node.graph is not graph or node in needed:
            continue
        needed.add(node)
        stack += [value for value in read_by(node) if value not in known]
    return [node for node in graph if node in needed]


def read_by(node: ir.Node) -> list[ir.Value]:
    """Values that a node reads, those that its subgraphs capture included (and what is made inside them)."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = attribute.as_graph()
            found += [value for each in inner.all_nodes() for value in each.inputs if value is not None]
            found += list(inner.outputs)
    return found


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.initializers.values()
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
