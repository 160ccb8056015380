"""Recognise nodes that scale and shift each channel by constants: y = scale * x + shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import Array, constant_array, input_of, is_float, is_op

FIRST_WITH_BROADCASTING = 7


@dataclass(frozen=True)
class Affine:
    """scale, shift: [] or [channels] float64, for the channel axis that was asked for."""

    x: ir.Value
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0))


def affine_of(node: ir.Node, version: int, channels: int, rank: int, axis: int) -> Affine | None:
    """What `node` does to each of `channels` channels along `axis` of a tensor of this rank; None for anything else.

    version: opset; the node must leave the tensor's shape alone, whatever its other dimensions are
    """
    if is_op(node, "BatchNormalization"):
        return _batchnorm(node, version, channels) if axis == 1 else None
    if is_op(node, "Neg") and node.inputs[0] is not None:
        return Affine(node.inputs[0], -np.ones(()), np.zeros(()))
    if version < FIRST_WITH_BROADCASTING or not is_op(node, "Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    for side in (1, 0):
        x, array = node.inputs[1 - side], constant_array(node.inputs[side])
        if x is None or array is None or not is_float(array):
            continue
        numbers = _per_channel(array, channels, rank, axis)
        if numbers is not None and np.isfinite(numbers).all():
            return _arithmetic(node.op_type, x, numbers, constant_first=side == 0)
    return None


def _arithmetic(op: str, x: ir.Value, c: NDArray[np.float64], constant_first: bool) -> Affine | None:
    one, zero = np.ones(()), np.zeros(())
    if op == "Mul":
        return Affine(x, c, zero)
    if op == "Add":
        return Affine(x, one, c)
    if op == "Sub":
        return Affine(x, -one, c) if constant_first else Affine(x, one, -c)
    return None if constant_first or not c.all() else Affine(x, 1 / c, zero)


def _batchnorm(node: ir.Node, version: int, channels: int) -> Affine | None:
    """scale = gamma / sqrt(var + epsilon)      shift = beta - mean * scale

    Inference mode only: before opset 14 it has one output then, from 14 on `training_mode` says it.
    """
    if version < FIRST_WITH_BROADCASTING or len(node.outputs) != 1 or node.inputs[0] is None:
        return None
    if node.attributes.get_int("training_mode", 0) or not node.attributes.get_int("spatial", 1):
        return None
    arrays = [constant_array(input_of(node, k)) for k in range(1, 5)]
    found = [array.astype(np.float64) for array in arrays if array is not None and array.shape == (channels,)]
    if len(found) < 4:
        return None
    gamma, beta, mean, variance = found
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        shift = beta - mean * scale
    return Affine(node.inputs[0], scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _per_channel(array: Array, channels: int, rank: int, axis: int) -> NDArray[np.float64] | None:
    """A constant that broadcasts along all axes but the channels', as [] or [channels]."""
    if array.ndim > rank or not array.size:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(dim != 1 for k, dim in enumerate(shape) if k != axis % rank) or shape[axis] not in (1, channels):
        return None
    return array.reshape(-1).astype(np.float64) if shape[axis] > 1 else array.reshape(()).astype(np.float64)

