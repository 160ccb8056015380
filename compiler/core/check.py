"""Refuse what is no valid model, in one sentence each, before anything is built from it.

onnx.checker copies the model, stops at 2 GB and lets weights through whose data do not fit; this one looks at names,
counts and sizes alone. Scope: main graph, subgraphs and functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import onnx
import onnx_ir as ir

from lwc.compiler.core.errors import InvalidGraph, UnsupportedOperator, UnsupportedOpset
from lwc.compiler.core.external import DataFolder
from lwc.compiler.core.normal_form import holds_map
from lwc.compiler.core.operators import Signature, check_opset, is_defined, newest_versions, signature
from lwc.compiler.core.order import find_cycle
from lwc.compiler.core.skeleton import roots
from lwc.compiler.core.weights import check_tensor, check_weight

FunctionKey = tuple[str, str, str]
_UNREPRESENTED = (
    onnx.AttributeProto.UNDEFINED,
    onnx.AttributeProto.SPARSE_TENSOR,
    onnx.AttributeProto.SPARSE_TENSORS,
)


@dataclass(frozen=True)
class _Scope:
    """What can be seen from the nodes being checked.

    outer: names of the graphs around;  parameters: attributes of the function around, None outside of functions
    """

    model: str
    opsets: Mapping[str, int]
    functions: Mapping[FunctionKey, onnx.FunctionProto]
    folder: DataFolder
    outer: tuple[Mapping[str, int], ...] = ()
    parameters: frozenset[str] | None = None
    unsorted: list[str] = field(default_factory=list)

    def sees(self, name: str) -> bool:
        return any(name in names for names in self.outer)


def check_proto(
    proto: onnx.ModelProto, model: str, weights: Mapping[int, memoryview], folder: DataFolder
) -> bool:
    """Raise what is wrong with the model; True when its nodes are in an order that they can run in.

    weights: raw data of the main graph's initializers that were taken out of `proto`, by number
    Raises InvalidGraph, UnsupportedOpset, UnsupportedOperator, BadExternalData.
    """
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedOpset(
            f"{model}: IR version {proto.ir_version} is unknown; onnx {onnx.__version__} knows those up to "
            f"{onnx.IR_VERSION}.",
            "Update onnx, or export with an older one.",
        )
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(functions) < len(proto.functions):
        raise InvalidGraph(f"{model}: two functions have the same name.")
    scope = _Scope(model, _opsets(model, proto.opset_import), functions, folder)
    if not scope.opsets:
        raise InvalidGraph(f"{model}: it imports no opset.")
    for function in proto.functions:
        _check_function(function, scope)
    _check_calls(functions, model)
    if not proto.graph.output:
        raise InvalidGraph(f"{model}: it has no outputs.")
    for value in proto.graph.input:
        kind = value.type
        if kind.WhichOneof("value") is None or (kind.HasField("tensor_type") and not kind.tensor_type.elem_type):
            raise InvalidGraph(f"{model}: input '{value.name}' has no type.")
    _check_graph(proto.graph, scope, weights)
    return not scope.unsorted


def foreign_operators(model: ir.Model) -> tuple[tuple[str, str], ...]:
    """(domain, operator) of nodes that neither ONNX nor a function of the model defines, sorted."""
    found = {
        (node.domain, node.op_type)
        for root in roots(model)
        for node in root.all_nodes()
        if node.op_identifier() not in model.functions
        and not is_defined(node.domain, node.op_type, root.opset_imports.get(node.domain, 0))
    }
    return tuple(sorted(found))


def _opsets(model: str, imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in imports:
        if opsets.setdefault(entry.domain, entry.version) != entry.version:
            raise InvalidGraph(f"{model}: it imports domain '{entry.domain}' in two versions.")
        check_opset(model, entry.domain, entry.version)
    return opsets


def _check_function(function: onnx.FunctionProto, scope: _Scope) -> None:
    inner = replace(
        scope,
        model=f"{scope.model}, function '{function.name}'",
        opsets=_opsets(scope.model, function.opset_import) or scope.opsets,
        parameters=frozenset((*function.attribute, *(attribute.name for attribute in function.attribute_proto))),
    )
    for attribute in function.attribute_proto:
        _check_content(attribute, inner.model, inner)
    made: dict[str, int] = {}
    for name in function.input:
        _claim(made, name, -1, "an input", inner)
    _check_nodes(function.node, made, function.output, inner)


def _check_calls(functions: Mapping[FunctionKey, onnx.FunctionProto], model: str) -> None:
    calls = {
        key: {(n.domain, n.op_type, n.overload) for n in _all_nodes(function.node)} & functions.keys()
        for key, function in functions.items()
    }
    cycle = find_cycle(calls)
    if cycle is not None:
        raise InvalidGraph(f"{model}: function '{cycle[1]}' calls itself.")


def _all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                yield from _all_nodes(graph.node)


def _check_graph(graph: onnx.GraphProto, scope: _Scope, weights: Mapping[int, memoryview]) -> set[str]:
    """Returns the names that the graph reads from the graphs around it."""
    made: dict[str, int] = {}
    for value in chain(graph.input, graph.output):
        if holds_map(value.type):
            raise UnsupportedOperator(
                f"{scope.model}: '{value.name}' is a map, which lwc cannot represent.", "Export with zipmap=False."
            )
    for value in graph.input:
        _claim(made, value.name, -1, "an input", scope)
    inputs = {value.name: value for value in graph.input}
    seen: set[str] = set()
    for k, tensor in enumerate(graph.initializer):
        check_weight(tensor, weights.get(k), scope.folder, scope.model, inputs.get(tensor.name))
        if tensor.name in seen:
            raise InvalidGraph(f"{scope.model}: two initializers have the name '{tensor.name}'.")
        seen.add(tensor.name)
        if tensor.name not in inputs:
            _claim(made, tensor.name, -1, "an initializer", scope)
    return _check_nodes(graph.node, made, [value.name for value in graph.output], scope)


def _check_nodes(
    nodes: Sequence[onnx.NodeProto], made: dict[str, int], outputs: Sequence[str], scope: _Scope
) -> set[str]:
    """made: value name -> number of the node that makes it, -1 for those that are given; the nodes' are added."""
    for k, node in enumerate(nodes):
        for name in node.output:
            if name:
                _claim(made, name, k, _label(node), scope)
    inner = replace(scope, outer=(*scope.outer, made))
    captured: set[str] = set()
    needs: dict[int, set[int]] = {}
    for k, node in enumerate(nodes):
        _check_signature(node, scope)
        read = {name for name in node.input if name}
        for graph in _check_attributes(node, scope):
            read |= _check_graph(graph, inner, {})
        needs[k] = {made[name] for name in read if name in made} - {-1}
        for name in read:
            if name not in made:
                if not scope.sees(name):
                    raise InvalidGraph(f"{scope.model}: {_label(node)} reads '{name}', which nothing makes.")
                captured.add(name)
    for name in outputs:
        if name not in made:
            raise InvalidGraph(f"{scope.model}: the output '{name}' is made by nothing in its graph.")
    if any(k <= max(needed, default=-1) for k, needed in needs.items()):
        scope.unsorted.append(scope.model)
        member = find_cycle(needs)
        if member is not None:
            raise InvalidGraph(f"{scope.model}: the graph is cyclic, {_label(nodes[member])} needs its own result.")
    return captured


def _claim(made: dict[str, int], name: str, maker: int, what: str, scope: _Scope) -> None:
    """Record who makes a value. Inputs and initializers of a subgraph may hide names around it, as in a Loop's body."""
    if not name:
        raise InvalidGraph(f"{scope.model}: {what} has a value without a name.")
    if name in made or (maker >= 0 and scope.sees(name)):
        raise InvalidGraph(f"{scope.model}: two values have the name '{name}', one of them made by {what}.")
    made[name] = maker


def _check_signature(node: onnx.NodeProto, scope: _Scope) -> None:
    """Operator, counts of inputs and outputs."""
    key = (node.domain, node.op_type, node.overload)
    function = scope.functions.get(key)
    if function is not None:
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise InvalidGraph(f"{scope.model}: {_label(node)} has more inputs or outputs than its function.")
        return
    expected = _signature(node, scope)
    if expected is None:
        return
    for what, given, allowed in (
        ("inputs", len(node.input), expected.inputs),
        ("outputs", len(node.output), expected.outputs),
    ):
        if given not in allowed:
            raise InvalidGraph(
                f"{scope.model}: {_label(node)} has {given} {what}; {allowed.start} to {allowed.stop - 1} are allowed."
            )


def _signature(node: onnx.NodeProto, scope: _Scope) -> Signature | None:
    version = scope.opsets.get(node.domain)
    if version is None:
        if node.domain in newest_versions():
            raise InvalidGraph(f"{scope.model}: {_label(node)} is of domain '{node.domain}', which is not imported.")
        return None
    try:
        return signature(node.domain, node.op_type, version)
    except LookupError as error:
        raise InvalidGraph(f"{scope.model}: {_label(node)}: {error.args[0]}.") from error


def _check_attributes(node: onnx.NodeProto, scope: _Scope) -> Iterator[onnx.GraphProto]:
    """Names, types and tensors; yields the subgraphs."""
    where = f"{scope.model}: {_label(node)}"
    own = (node.domain, node.op_type, node.overload) in scope.functions
    expected = None if own else _signature(node, scope)
    given: set[str] = set()
    for attribute in node.attribute:
        if attribute.name in given:
            raise InvalidGraph(f"{where} has two attributes '{attribute.name}'.")
        given.add(attribute.name)
        if expected is not None:
            kind, _ = expected.attributes.get(attribute.name, (None, False))
            if kind is None or kind != attribute.type:
                problem = "an unknown attribute" if kind is None else "the wrong type of attribute"
                raise InvalidGraph(f"{where} has {problem} '{attribute.name}'.")
        if not attribute.ref_attr_name:
            _check_content(attribute, where, scope)
            yield from _graphs(attribute)
        elif scope.parameters is None or attribute.ref_attr_name not in scope.parameters:
            raise InvalidGraph(f"{where} refers to '{attribute.ref_attr_name}', which no function gives it.")
    if expected is not None:
        missing = {name for name, (_, required) in expected.attributes.items() if required} - given
        if missing:
            raise InvalidGraph(f"{where} lacks its attribute '{min(missing)}'.")


def _check_content(attribute: onnx.AttributeProto, where: str, scope: _Scope) -> None:
    if attribute.type in _UNREPRESENTED:
        raise InvalidGraph(f"{where} has the attribute '{attribute.name}' without a type, or of a sparse one.")
    if attribute.type == onnx.AttributeProto.TENSOR:
        check_tensor(attribute.t, None, scope.folder, where)
    for tensor in attribute.tensors:
        check_tensor(tensor, None, scope.folder, where)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.type == onnx.AttributeProto.GRAPH:
        yield attribute.g
    elif attribute.type == onnx.AttributeProto.GRAPHS:
        yield from attribute.graphs


def _label(node: onnx.NodeProto) -> str:
    return f"node '{node.name}' ({node.op_type})" if node.name else f"a node of operator {node.op_type}"
