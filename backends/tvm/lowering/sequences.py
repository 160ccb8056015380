"""Sequences, which are tuples here: their lengths and positions are known while the graph is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, const, constant_array, ints_of, shape_of, stacked

Items = list[relax.Expr]
Rule = Callable[[Builder, list[Any], dict[str, Any], int], relax.Expr]


def construct(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SequenceConstruct and SequenceEmpty."""
    return relax.Tuple(inputs)


def erase(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SequenceErase: the last item, or the one at a position."""
    items = _items(inputs[0])
    del items[_position(inputs[1:], -1)]
    return relax.Tuple(items)


def insert(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SequenceInsert: before a position, or at the end."""
    items = _items(inputs[0])
    items.insert(_position(inputs[2:], len(items)), inputs[1])
    return relax.Tuple(items)


def at(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SequenceAt."""
    return _items(inputs[0])[_position(inputs[1:], 0)]


def length(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SequenceLength."""
    return const(len(_items(inputs[0])), "int64")


def concat(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """ConcatFromSequence: along an axis, which is new where it is asked for."""
    items = _items(inputs[0])
    return (stacked if attrs.get("new_axis", 0) else relax.op.concat)(items, attrs["axis"])


def split(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """SplitToSequence: pieces of given sizes, of one size but the last, or single slices."""
    x, sizes = [*inputs, None][:2]
    dims = shape_of(x)
    axis = attrs.get("axis", 0) % len(dims)
    if sizes is not None and constant_array(sizes, "the sizes of the pieces").ndim == 1:
        pieces = ints_of(sizes, "sizes")
    else:
        (whole,) = (1,) if sizes is None else ints_of(sizes, "the size of a piece")
        pieces = [min(whole, dims[axis] - start) for start in range(0, dims[axis], whole)]
    ends: Sequence[int] = np.cumsum(pieces).tolist()
    found = [
        bb.emit(relax.op.strided_slice(x, [axis], [end - piece], [end]))
        for end, piece in zip(ends, pieces, strict=True)
    ]
    if sizes is None and not attrs.get("keepdims", 1):
        found = [bb.emit(relax.op.squeeze(item, [axis])) for item in found]
    return relax.Tuple(found)


def _items(value: Any) -> Items:
    if not isinstance(value, relax.Tuple):
        raise NotImplementedError("its sequence is not known while the graph is imported.")
    return list(value.fields)


def _position(given: Sequence[Any], default: int) -> int:
    return ints_of(given[0], "the position")[0] if given and given[0] is not None else default


RULES: dict[str, Rule] = {
    "ConcatFromSequence": concat,
    "SequenceAt": at,
    "SequenceConstruct": construct,
    "SequenceEmpty": construct,
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "SplitToSequence": split,
}
