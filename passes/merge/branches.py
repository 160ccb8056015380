"""What the operands of an Add are, as linear functions of the same value.

    branch(x) = scale * (x through one layer, or two, or none) + shift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import Array, constant, is_op, sole_user
from lwc.passes.fuse.affine import affine_of
from lwc.passes.fuse.linear import Linear, linear_of

Floats = NDArray[np.float64]

_MOST_LAYERS = 2


@dataclass(frozen=True, eq=False)
class Branch:
    """x through `layers`, the first of them first, and what was multiplied and added on the way.

    scale, shift: [] or [channels], behind all layers;  nodes: from the result back to x, which nobody else reads
    """

    x: ir.Value
    layers: tuple[Linear, ...]
    scale: Floats
    shift: Floats
    nodes: tuple[ir.Node, ...]


def branches_of(value: ir.Value, like: Linear, version: int) -> Iterator[Branch]:
    """The value as a function of itself, of what is before it, of what is before that, and so on.

    like: a layer whose result has the value's channels;  version: opset
    Only nodes of the layer's graph whose results are read once.
    """
    branch = Branch(value, (), np.ones(()), np.zeros(()), ())
    yield branch
    while (node := branch.x.producer()) is not None and node.graph is like.node.graph:
        if sole_user(branch.x) is None:
            return
        step = _through_layer(branch, node) or _scaled(branch, node, like, version)
        if step is None:
            return
        branch = step
        yield branch


def _scaled(branch: Branch, node: ir.Node, like: Linear, version: int) -> Branch | None:
    """Behind all layers what is per channel of the result; before one a number, which its weight takes."""
    dims, axis = frame(branch.layers[0] if branch.layers else like)
    found = affine_of(node, version, 0 if branch.layers else like.channels, dims, axis)
    if found is None or (branch.layers and found.shifts):
        return None
    nodes = (*branch.nodes, node)
    if branch.layers:
        first, *others = branch.layers
        scaled = replace(first, weight=first.weight.astype(np.float64) * found.scale)
        return replace(branch, x=found.x, layers=(scaled, *others), nodes=nodes)
    shift = branch.scale * found.shift + branch.shift
    return replace(branch, x=found.x, scale=branch.scale * found.scale, shift=shift, nodes=nodes)


def _through_layer(branch: Branch, node: ir.Node) -> Branch | None:
    layer = plain_layer(node)
    if layer is None or len(branch.layers) == _MOST_LAYERS or node.inputs[0] is None:
        return None
    if branch.layers and not _feeds(layer, branch.layers[0]):
        return None
    return replace(branch, x=node.inputs[0], layers=(layer, *branch.layers), nodes=(*branch.nodes, node))


def frame(layer: Linear) -> tuple[int, int]:
    """Rank and channel axis that constants are read by; products take what broadcasts along their last axis."""
    return (layer.rank, 1) if layer.node.op_type == "Conv" else (1, -1)


def plain_layer(node: ir.Node | None) -> Linear | None:
    """A layer that branches are made of: no ConvTranspose, no transposed input, explicit pads."""
    layer = linear_of(node)
    if layer is None or layer.node.op_type == "ConvTranspose":
        return None
    attributes = layer.node.attributes
    plain = attributes.get_int("transA", 0) == 0 and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return layer if plain and bias_of(layer) is not None else None


def layer_behind(value: ir.Value) -> Linear | None:
    """The layer whose result is multiplied by constants, or added to them, until it is this value."""
    node = value.producer()
    while node is not None:
        layer = plain_layer(node)
        values = [v for v in node.inputs if v is not None and constant(v) is None]
        if layer is not None or len(values) != 1 or not is_op(node, "Add", "Mul", "Sub", "Div", "Neg"):
            return layer
        node = values[0].producer()
    return None


def _feeds(first: Linear, second: Linear) -> bool:
    """Whether one after the other is a layer of their kind: two products, or a convolution and one of one pixel."""
    if first.node.op_type != "Conv" or second.node.op_type != "Conv":
        return first.node.op_type != "Conv" and second.node.op_type != "Conv"
    attributes = second.node.attributes
    moves = set(attributes.get_ints("strides", (1,))) != {1} or any(attributes.get_ints("pads", (0,)))
    groups = {layer.node.attributes.get_int("group", 1) for layer in (first, second)}
    return not moves and set(second.weight.shape[2:]) == {1} and groups == {1}


def weight_of(layer: Linear) -> Floats:
    """[out, in ...], Gemm's alpha in it."""
    weight = layer.weight.astype(np.float64)
    if layer.node.op_type == "Conv":
        return weight
    return turned(layer, weight) * layer.node.attributes.get_float("alpha", 1.0)


def turned(layer: Linear, weight: Floats) -> Floats:
    """Between a product's weight as it is stored and [out, in]."""
    outputs_first = layer.node.op_type == "Conv" or layer.node.attributes.get_int("transB", 0) == 1
    return weight if outputs_first else weight.T


def bias_of(layer: Linear) -> Floats | None:
    """[] or [out]; None where it differs from row to row."""
    if layer.bias is None:
        return np.zeros(())
    bias: Array = layer.bias
    if bias.ndim > 1 and bias.shape[-1] != bias.size:
        return None
    beta = layer.node.attributes.get_float("beta", 1.0) if layer.node.op_type == "Gemm" else 1.0
    return bias.reshape(-1 if bias.size > 1 else ()).astype(np.float64) * beta


def composed(branch: Branch) -> tuple[Floats, Floats]:
    """Weight [out, in ...] and bias [] or [out] of a branch with layers.

    Pads, strides, dilations and groups of a convolution are those of the first layer.
    """
    weight, bias = weight_of(branch.layers[0]), _bias(branch.layers[0])
    for layer in branch.layers[1:]:
        flat = weight_of(layer).reshape(layer.channels, -1)
        bias = flat @ np.broadcast_to(bias, flat.shape[1]) + _bias(layer)
        weight = np.tensordot(flat, weight, 1)
    return weight * spread(branch.scale, weight.ndim), bias * branch.scale + branch.shift


def _bias(layer: Linear) -> Floats:
    found = bias_of(layer)
    assert found is not None
    return found


def spread(scale: Floats, axes: int) -> Floats:
    """A scale of outputs in a shape that multiplies a weight [out, in ...]."""
    return scale.reshape(-1, *(1,) * (axes - 1)) if scale.ndim else scale
