"""Recognise LayerNormalization where it is written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import (
    Names,
    add_initializer,
    constant,
    constant_number,
    ints_of,
    is_op,
    new_node,
    opset,
    remove,
    replace_node,
    site,
    sole_user,
    static_shape,
)  # fmt: skip

FIRST_WITH_LAYER_NORM = 17


@dataclass(frozen=True)
class Normalized:
    """(x - mean(x)) / sqrt(var(x) + epsilon) over the last dimensions, made by `nodes`, the last one first.

    shape: of these dimensions
    """

    x: ir.Value
    shape: tuple[int, ...]
    epsilon: float
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class MergeLayerNorm(Pass):
    """d = x - mean(x);  d / sqrt(mean(d^2) + eps) * scale + bias -> LayerNormalization(x, scale, bias)

    over trailing axes; d^2 as Pow or Mul, bias optional, scale and bias constants of exactly the normalized shape.
    float32, opset 17 or newer. Nothing in between may have another reader. ONNX Runtime would do the same on
    loading; doing it here gives other runtimes and the integer passes the one operator.
    Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-layer-norm"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        if opset(model) < FIRST_WITH_LAYER_NORM:
            return Outcome()
        names = Names(model)
        for graph in model.graphs():
            for node in graph:
                found = _normalized(node)
                if found is not None:
                    changed.append(site(node))
                    _replace(graph, found, names)
        return Outcome(tuple(changed))


def _normalized(node: ir.Node) -> Normalized | None:
    """What a Div computes, if it is this."""
    if not is_op(node, "Div"):
        return None
    deviation, root = _producer(node, 0, "Sub"), _producer(node, 1, "Sqrt")
    shifted = _producer(root, 0, "Add")
    if deviation is None or root is None or shifted is None:
        return None
    side = 0 if constant_number(shifted.inputs[1]) is not None else 1
    variance, epsilon = _producer(shifted, side, "ReduceMean"), constant_number(shifted.inputs[1 - side])
    square, mean = _producer(variance, 0, "Pow", "Mul"), _producer(deviation, 1, "ReduceMean")
    if variance is None or square is None or mean is None or epsilon is None:
        return None
    x, shape = deviation.inputs[0], _normalized_shape(mean)
    if x is None or mean.inputs[0] is not x or shape is None or shape != _normalized_shape(variance):
        return None
    d = deviation.outputs[0]
    nodes = (node, root, shifted, variance, square, deviation, mean)
    readers = {use.node for use in d.uses()}
    if not _squares(square, d) or readers != {node, square} or not _only_read_inside(nodes):
        return None
    return Normalized(x, shape, epsilon, nodes) if x.dtype == ir.DataType.FLOAT else None


def _producer(node: ir.Node | None, index: int, *ops: str) -> ir.Node | None:
    value = node.inputs[index] if node is not None else None
    producer = value.producer() if value is not None else None
    return producer if is_op(producer, *ops) else None


def _squares(node: ir.Node, d: ir.Value) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is d and node.inputs[1] is d
    return node.inputs[0] is d and constant_number(node.inputs[1]) == 2


def _normalized_shape(node: ir.Node) -> tuple[int, ...] | None:
    """The sizes of the trailing axes that a ReduceMean takes the mean over, kept as ones."""
    axes, shape = ints_of(node, "axes", 1), node.inputs[0].shape if node.inputs[0] is not None else None
    if not axes or shape is None or not node.attributes.get_int("keepdims", 1):
        return None
    first = len(shape) - len(axes)
    trailing = [dim for dim in list(shape)[first:] if isinstance(dim, int)]
    if len(trailing) < len(axes) or sorted(a % len(shape) for a in axes) != list(range(first, len(shape))):
        return None
    return tuple(trailing)


def _only_read_inside(nodes: tuple[ir.Node, ...]) -> bool:
    """No result but the first node's is read outside or a graph output; all are in one graph."""
    inside = set(nodes)
    if len({node.graph for node in nodes}) > 1:
        return False
    return not any(
        value.is_graph_output() or any(use.node not in inside for use in value.uses())
        for node in nodes[1:]
        for value in node.outputs
    )


def _replace(graph: ir.Graph, found: Normalized, names: Names) -> None:
    nodes = list(found.nodes)
    scale = _parameter(nodes[0], "Mul", found.shape)
    bias = None
    if scale is None:
        ones = np.ones(found.shape, np.float32)
        gain = add_initializer(graph, names.claim(f"{nodes[0].outputs[0].name}.scale"), ones)
    else:
        nodes.insert(0, scale[0])
        gain, bias = scale[1], _parameter(scale[0], "Add", found.shape)
    if bias is not None:
        nodes.insert(0, bias[0])
    attributes = [ir.AttrInt64("axis", -len(found.shape)), ir.AttrFloat32("epsilon", found.epsilon)]
    inputs = [found.x, gain, bias[1]] if bias is not None else [found.x, gain]
    replace_node(nodes[0], new_node("LayerNormalization", inputs, attributes))
    remove(nodes[1:])


def _parameter(node: ir.Node, op: str, shape: tuple[int, ...]) -> tuple[ir.Node, ir.Value] | None:
    """The only reader of a node, if it applies a constant of this shape; and that constant."""
    user = sole_user(node.outputs[0])
    if user is None or not is_op(user, op) or user.graph is not node.graph:
        return None
    other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
    return (user, other) if other is not None and constant(other) is not None and static_shape(other) == shape else None
