"""Kinds and labels of nodes: equal where two exporters wrote the same operator in the same place."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

# Binary operators whose inputs exporters write in any order.
COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "Sum", "And", "Or", "Xor", "Equal"})
ROUNDS = 2
_PLAIN = {"dilations": 1, "strides": 1, "pads": 0}  # what their lists hold when they are left out
_IMPLIED = frozenset({("Conv", "kernel_shape"), ("ConvTranspose", "kernel_shape")})  # the weight's shape says it
_UNSET = frozenset({("auto_pad", "NOTSET"), ("auto_pad", b"NOTSET")})

Kinds = Mapping[ir.Node, Hashable]


def kinds_of(model: ir.Model) -> dict[ir.Node, Hashable]:
    """Operator and attributes of every node, defaults filled in; subgraphs do not count."""
    return {node: _kind(node, model.opset_imports.get(node.domain, 1)) for node in model.graph.all_nodes()}


def swaps(node: ir.Node) -> bool:
    """Whether the two inputs of the node may be swapped."""
    return node.domain == "" and node.op_type in COMMUTATIVE and len(node.inputs) == 2


def _kind(node: ir.Node, version: int) -> Hashable:
    given = {
        name: _plain(attribute)
        for name, attribute in node.attributes.items()
        if attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    }
    attributes = {**_defaults(node.op_type, version, node.domain), **given}
    kept = {name: value for name, value in attributes.items() if not _says_nothing(node.op_type, name, value)}
    return node.domain, node.op_type, node.overload, tuple(sorted(kept.items(), key=lambda item: item[0]))


def _says_nothing(op: str, name: str, value: Any) -> bool:
    if (op, name) in _IMPLIED or (name, value) in _UNSET:
        return True
    return name in _PLAIN and isinstance(value, tuple) and set(value) <= {_PLAIN[name]}


@cache
def _defaults(op: str, version: int, domain: str) -> dict[str, Any]:
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:  # an operator of another domain
        return {}
    return {
        name: _plain(ir.serde.deserialize_attribute(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED
    }


def _plain(attribute: ir.Attr) -> Hashable:
    """A value that can be compared: floats as float32, tensors by their bytes."""
    value: Any = attribute.value
    if attribute.type == ir.AttributeType.FLOAT:
        return float(np.float32(value))
    if attribute.type == ir.AttributeType.FLOATS:
        return tuple(float(np.float32(number)) for number in value)
    if attribute.type == ir.AttributeType.TENSOR:
        return str(value.dtype), tuple(value.shape.numpy()), value.tobytes()
    return tuple(value) if isinstance(value, (list, tuple)) else value if isinstance(value, Hashable) else repr(value)


def labels_of(model: ir.Model, kinds: Kinds) -> tuple[dict[ir.Node, int], dict[ir.Value, int]]:
    """Of every node a number for all that is before and behind it, and of every value one for what it is made of.

    Equal in two models for nodes of equal places. Parameters count with their shapes, inputs and outputs with their
    positions. Numbers hold within one process.
    """
    nodes = list(model.graph.all_nodes())
    labels = {node: hash(kinds[node]) for node in nodes}
    made: dict[ir.Value, int] = {}
    for _ in range(ROUNDS):
        made = _forward(model, nodes, labels)
        behind = _backward(model, nodes, labels)
        labels = {node: hash((made.get(node.outputs[0]), behind[node])) for node in nodes if node.outputs}
        labels.update((node, hash((behind[node],))) for node in nodes if not node.outputs)
    return labels, made


def _forward(model: ir.Model, nodes: list[ir.Node], labels: Mapping[ir.Node, int]) -> dict[ir.Value, int]:
    made: dict[ir.Value, int] = {}
    for graph in model.graphs():
        made.update((value, hash(("constant", _sizes(value)))) for value in graph.initializers.values())
        made.update((value, hash(("input", k))) for k, value in enumerate(graph.inputs) if value not in made)
    for node in nodes:
        read = [0 if value is None else made.get(value, 1) for value in node.inputs]
        found = hash((labels[node], tuple(sorted(read) if swaps(node) else read)))
        made.update((value, hash((found, k))) for k, value in enumerate(node.outputs))
    return made


def _backward(model: ir.Model, nodes: list[ir.Node], labels: Mapping[ir.Node, int]) -> dict[ir.Node, int]:
    places: dict[ir.Value, list[int]] = {}
    for graph in model.graphs():
        for k, value in enumerate(graph.outputs):
            places.setdefault(value, []).append(k)
    behind: dict[ir.Node, int] = {}
    for node in reversed(nodes):
        uses = tuple((tuple(places.get(value, ())), tuple(sorted(_uses(value, behind)))) for value in node.outputs)
        behind[node] = hash((labels[node], uses))
    return behind


def _uses(value: ir.Value, behind: Mapping[ir.Node, int]) -> Iterator[tuple[int, int]]:
    for node, index in value.uses():
        yield behind.get(node, 0), -1 if swaps(node) else index


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    return None if value.const_value is None else tuple(int(size) for size in value.const_value.shape.numpy())
