"""Pad in all its modes, over any axes, negative amounts included; Split into pieces of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import (
    Builder,
    array_of,
    const,
    constant_array,
    dims_of,
    dtype_of,
    ints_of,
    shape_of,
    text_of,
)


def pad(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Pad: with a constant, or with elements of the tensor itself."""
    x, pads, value, axes = [*inputs, None, None][:4]
    rank = len(dims_of(x))
    amounts = ints_of(pads, "pads")
    chosen = list(range(rank)) if axes is None else [axis % rank for axis in ints_of(axes, "axes")]
    each = dict(zip(chosen, zip(amounts[: len(chosen)], amounts[len(chosen) :], strict=True), strict=True))
    mode = text_of(attrs, "mode", "constant")
    if mode != "constant":
        for axis, amount in each.items():
            x = _repeated(bb, x, axis, amount, mode) if any(amount) else x
        return x
    cut = _cut(bb, x, {axis: (min(a, 0), min(b, 0)) for axis, (a, b) in each.items()})
    widths = [max(side, 0) for axis in range(rank) for side in each.get(axis, (0, 0))]
    if not any(widths):
        return cut
    if value is not None and array_of(value) is None:
        inside = const(np.pad(np.ones(shape_of(cut), bool), np.reshape(widths, (-1, 2)).tolist()))
        return relax.op.where(inside, relax.op.nn.pad(cut, widths), relax.op.reshape(value, [1] * rank))
    number = 0 if value is None else constant_array(value, "the value").reshape(-1)[0].item()
    if dtype_of(x) == "bool":
        return relax.op.astype(relax.op.nn.pad(relax.op.astype(cut, "int8"), widths, pad_value=int(number)), "bool")
    return relax.op.nn.pad(cut, widths, pad_value=number)


def _cut(bb: Builder, x: relax.Expr, each: dict[int, tuple[int, int]]) -> relax.Expr:
    shortened = {axis: amount for axis, amount in each.items() if any(amount)}
    if not shortened:
        return x
    dims = shape_of(x)
    begins = [-begin for begin, _ in shortened.values()]
    ends = [dims[axis] + end for axis, (_, end) in shortened.items()]
    return bb.emit(relax.op.strided_slice(x, list(shortened), begins, ends))


def _repeated(bb: Builder, x: relax.Expr, axis: int, amount: tuple[int, int], mode: str) -> relax.Expr:
    indices = np.arange(shape_of(x)[axis])
    before, after = (max(side, 0) for side in amount)
    padded = np.pad(indices, (before, after), mode)  # type: ignore[call-overload]
    kept = padded[max(-amount[0], 0) : len(padded) - max(-amount[1], 0)]
    return bb.emit(relax.op.take(x, const(kept, "int64"), axis=axis))


def split(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Split: pieces of given sizes, or of equal ones but the last."""
    x, sizes = [*inputs, None][:2]
    dims = shape_of(x) if sizes is None else dims_of(x)
    axis = attrs.get("axis", 0) % len(dims)
    count = attrs.get("num_outputs", attrs["tvm_custom"]["num_outputs"])
    if sizes is not None:
        if array_of(sizes) is None:
            raise NotImplementedError("the sizes of the pieces must be constant.")
        pieces = ints_of(sizes, "sizes")
    else:
        whole = -(-dims[axis] // count)
        pieces = [min(whole, dims[axis] - k * whole) for k in range(count)]
    ends = np.cumsum(pieces).tolist()
    if all(piece > 0 for piece in pieces):
        return relax.op.split(x, ends[:-1], axis)
    starts = [end - piece for end, piece in zip(ends, pieces, strict=True)]
    return relax.Tuple(
        [bb.emit(relax.op.strided_slice(x, [axis], [a], [b])) for a, b in zip(starts, ends, strict=True)]
    )


RULES = {"Pad": pad, "Split": split}
