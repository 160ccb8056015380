"""Which linear layers read the channels of a value, and so can take back what each channel is divided by.

Operators that channels pass on the way, scaled by s > 0:

    Relu, LeakyRelu, PRelu               f(s x) = s f(x)
    Identity, Transpose, Reshape ...     values move
    pooling                              over axes that one channel spans
    Mul, Div by a value not scaled       (s x) * g = s (x * g)
    MatMul(p, x)                         p (x diag(s)) = (p x) diag(s): what attention does to its values

A constant added to each channel passes those that only move values. Everything else blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import input_of, is_op, rank
from lwc.passes.fuse.linear import Linear, linear_of

# The channel at each position of a value, aligned at its last axis; axes that no channel varies along have size 1.
Index = NDArray[np.intp]

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear layer at the end of a path.

    channels: [in] the channel that each of its inputs is;  moved_only: nothing on the path but moves of values
    """

    node: ir.Node
    channels: NDArray[np.intp]
    moved_only: bool


@dataclass(frozen=True, eq=False)
class Use:
    """One use of the value: the layers behind it, or the reason why its channels cannot be scaled there."""

    node: ir.Node
    position: int
    readers: tuple[Reader, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Arrival:
    """Channels that reach one input of a node."""

    node: ir.Node
    position: int
    value: ir.Value
    index: Index
    moved_only: bool = True


def uses_of(value: ir.Value, index: Index) -> list[Use]:
    """Every use of `value`, whose channels lie as `index` says."""
    met: set[ir.Node] = set()
    return [_follow(_Arrival(usage.node, usage.idx, value, index), met) for usage in value.uses()]


def _follow(first: _Arrival, met: set[ir.Node]) -> Use:
    readers: list[Reader] = []
    todo = [first]
    while todo:
        at = todo.pop()
        if at.node.graph is not first.value.graph:
            return Use(first.node, first.position, reason=f"'{at.value.name}' is read inside a subgraph")
        channels = _channels_read(at)
        if channels is not None:
            readers.append(Reader(at.node, channels, at.moved_only))
            continue
        index = None if at.node in met else _passed(at)
        if index is None:
            return Use(first.node, first.position, reason=f"'{at.node.name}' ({at.node.op_type}) is in the way")
        met.add(at.node)
        result = at.node.outputs[0]
        if result.is_graph_output():
            return Use(first.node, first.position, reason=f"'{result.name}' is an output of the model")
        moved_only = at.moved_only and is_op(at.node, "Identity", "Transpose", *_RESHAPES)
        todo += [_Arrival(usage.node, usage.idx, result, index, moved_only) for usage in result.uses()]
    return Use(first.node, first.position, tuple(readers))


def _channels_read(at: _Arrival) -> NDArray[np.intp] | None:
    """The channel of each input of a linear layer; None when the node is none, or its inputs mix channels."""
    layer = linear_of(at.node) if at.position == 0 else None
    if layer is None or _is_set(at.node, "transA"):
        return None
    others = at.index.shape[:-1]
    if layer.node.op_type in ("Conv", "ConvTranspose"):
        missing = layer.weight.ndim - 1 - at.index.ndim
        others = ((1,) * missing + at.index.shape)[1:] if missing >= 0 else (0,)
    return at.index.reshape(-1) if at.index.size == inputs_of(layer) and set(others) <= {1} else None


def inputs_of(layer: Linear) -> int:
    """How many channels a linear layer reads."""
    shape, op = layer.weight.shape, layer.node.op_type
    if op == "Conv":
        return int(shape[1]) * layer.node.attributes.get_int("group", 1)
    return int(shape[1 if rows_are_outputs(layer) else 0])


def rows_are_outputs(layer: Linear) -> bool:
    """Whether the weight's first axis is the outputs; else it is the inputs."""
    return layer.node.op_type == "Conv" or _is_set(layer.node, "transB")


def _is_set(node: ir.Node, attribute: str) -> bool:
    return bool(node.attributes.get_int(attribute, 0))


def _passed(at: _Arrival) -> Index | None:
    """Where the channels lie in the node's result; None when they cannot pass."""
    node, index = at.node, at.index
    if is_op(node, "Identity") or (is_op(node, *_HOMOGENEOUS) and at.position == 0):
        return index
    if is_op(node, "Transpose"):
        return _transposed(node, at.value, index)
    if is_op(node, *_RESHAPES) and at.position == 0:
        return reshaped(index, _dims(at.value), _dims(node.outputs[0]))
    if is_op(node, *_POOLS) and len(node.outputs) == 1:
        return index if rank(at.value) == index.ndim + 1 and set(index.shape[1:]) <= {1} else None
    other = input_of(node, 1 - at.position) if len(node.inputs) == 2 else None
    if other is None or other is at.value:
        return None
    if is_op(node, "Mul") or (is_op(node, "Div") and at.position == 0):
        return index
    if is_op(node, "MatMul") and at.position == 1 and (rank(at.value) or 0) > 1 and (rank(other) or 0) > 1:
        return index if index.ndim < 2 or index.shape[-2] == 1 else None
    return None


def _transposed(node: ir.Node, value: ir.Value, index: Index) -> Index | None:
    axes = rank(value)
    if axes is None or axes < index.ndim:
        return None
    permutation = node.attributes.get_ints("perm", tuple(reversed(range(axes))))
    whole = index.reshape((1,) * (axes - index.ndim) + index.shape)
    return _trimmed(whole.transpose(permutation))


def reshaped(index: Index, before: list[int | None], after: list[int | None]) -> Index | None:
    """Where channels lie after a reshape that keeps what is in front of them apart from them; None when unknown.

    before, after: dimensions, None where they are not known. The axes from the first channel axis on must be known,
    and as many values must lie behind some axis of the result.
    """
    tail = before[len(before) - index.ndim :]
    known = [size for size in tail if size is not None]
    if index.ndim > len(before) or len(known) < index.ndim:
        return None
    size = math.prod(known)
    for start in range(len(after), -1, -1):
        behind = [dim for dim in after[start:] if dim is not None]
        if len(behind) < len(after) - start:
            return None
        if math.prod(behind) == size:
            return _trimmed(np.broadcast_to(index, known).reshape(behind))
    return None


def _trimmed(index: Index) -> Index:
    """Leading axes of size one are left out; behind them, an axis along which nothing varies has size 1."""
    shortened = index
    for axis in range(index.ndim):
        first = shortened.take([0], axis)
        if bool((shortened == first).all()):
            shortened = first
    while shortened.ndim > 1 and shortened.shape[0] == 1:
        shortened = shortened[0]
    return shortened


def _dims(value: ir.Value | None) -> list[int | None]:
    if value is None or value.shape is None:
        return []
    return [dim if isinstance(dim, int) else None for dim in value.shape]
