"""Layers that are linear in a constant weight: their output channels, and the layer times a scale plus a shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import Array, Names, add_initializer, constant_array, input_of, is_float, is_op, new_node

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """y = layer(x; weight) + bias, with `channels` output channels along `axis` of the result.

    rank: of the result; for MatMul 1, the least it can have, and the axis is the last one
    bias: [channels] or a shape that broadcasts to the result of a Gemm; None: absent
    """

    node: ir.Node
    weight: Array
    bias: Array | None
    channels: int
    rank: int
    axis: int

    @property
    def takes_shift(self) -> bool:
        return self.node.op_type != "MatMul"


def linear_of(node: ir.Node | None) -> Linear | None:
    """`node` as a linear layer of floats whose weight, and bias if there is one, no caller can override."""
    if node is None or not is_op(node, *LINEAR) or len(node.inputs) < 2:
        return None
    weight, given = constant_array(node.inputs[1]), input_of(node, 2)
    bias = constant_array(given)
    if weight is None or (given is not None and bias is None) or not is_float(weight):
        return None
    op, shape = node.op_type, weight.shape
    if op == "Conv" and weight.ndim >= 3:
        return Linear(node, weight, bias, shape[0], weight.ndim, 1)
    if op == "ConvTranspose" and weight.ndim >= 3:
        return Linear(node, weight, bias, shape[1] * node.attributes.get_int("group", 1), weight.ndim, 1)
    if op == "Gemm" and weight.ndim == 2:
        return Linear(node, weight, bias, shape[0 if node.attributes.get_int("transB", 0) else 1], 2, 1)
    if op == "MatMul" and weight.ndim == 2:
        return Linear(node, weight, None, shape[1], 1, -1)
    return None


def transformed(layer: Linear, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[Array, Array | None]:
    """Weight and bias of scale * layer + shift, in the weight's type; infinities mean that it does not fit.

    scale, shift: [] or [channels] float64
    """
    op, weight = layer.node.op_type, layer.weight.astype(np.float64)
    scaled = weight * _along_outputs(layer, scale)
    if layer.bias is None and not np.any(shift):
        bias = None
    else:
        beta = layer.node.attributes.get_float("beta", 1.0) if op == "Gemm" else 1.0
        old = np.zeros(()) if layer.bias is None else layer.bias.astype(np.float64)
        bias = np.broadcast_to(beta * old * scale + shift, _bias_shape(layer, old, scale, shift))
    dtype = layer.weight.dtype
    with np.errstate(over="ignore"):
        return scaled.astype(dtype), None if bias is None else np.ascontiguousarray(bias).astype(dtype)


def _along_outputs(layer: Linear, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scale in a shape that multiplies the weight's output channels."""
    if scale.ndim == 0:
        return scale
    op, weight = layer.node.op_type, layer.weight
    ones = (1,) * (weight.ndim - 2)
    if op == "Conv":
        return scale.reshape(-1, 1, *ones)
    if op == "ConvTranspose":  # [in, out / group, ...]: rows of group g make the channels of group g
        group = layer.node.attributes.get_int("group", 1)
        rows = np.repeat(scale.reshape(group, -1), weight.shape[0] // group, axis=0)
        return rows.reshape(weight.shape[0], -1, *ones)
    return scale.reshape(-1, 1) if layer.node.attributes.get_int("transB", 0) else scale.reshape(1, -1)


def _bias_shape(layer: Linear, *parts: NDArray[np.float64]) -> tuple[int, ...]:
    """Convolutions want [channels]; a Gemm takes whatever broadcasts."""
    if layer.node.op_type == "Gemm":
        return np.broadcast_shapes(*(part.shape for part in parts))
    return (layer.channels,)


def with_parameters(layer: Linear, weight: Array, bias: Array | None, names: Names) -> ir.Node:
    """A copy of the layer with other parameters, as new initializers: the old ones may have other readers."""
    old = layer.node
    graph, kernel = old.graph, old.inputs[1]
    assert graph is not None
    assert kernel is not None
    inputs = [old.inputs[0], add_initializer(graph, names.claim(f"{kernel.name}.folded"), weight)]
    if bias is not None:
        given = input_of(old, 2)
        wanted = f"{given.name}.folded" if given is not None else f"{kernel.name}.bias"
        inputs.append(add_initializer(graph, names.claim(wanted), bias))
    attributes = [a for a in old.attributes.values() if not (a.name == "beta" and old.op_type == "Gemm")]
    return new_node(old.op_type, inputs, attributes)
