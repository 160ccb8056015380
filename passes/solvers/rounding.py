"""Affine quantization by rounding to the nearest code.

    q = clip(rint(x / scale) + zero_point, low, high)      x' = (q - zero_point) * scale

Krishnamoorthi 2018, section 2. rint rounds half to even, as ONNX QuantizeLinear does. Zero is always exact.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lwc.compiler.core.plan import Range
from lwc.passes.solvers.ranges import SMALLEST_SCALE, Blocks, minmax, mse

Codes = NDArray[np.integer[Any]]
ScaleMethod = Literal["minmax", "mse"]


def affine_parameters(
    range_: Range, dtype: DTypeLike = np.uint8, symmetric: bool = False
) -> tuple[np.float32, np.integer[Any]]:
    """Scale and zero point of an integer type over a range; the range is widened to hold zero.

    symmetric: zero in the middle of the codes, so that scale * (levels/2 - 1) is the larger end (int8: zero_point 0).
    A range that is zero at both ends gives scale 1.
    """
    info = np.iinfo(np.dtype(dtype))
    low, high = min(range_.low, 0.0), max(range_.high, 0.0)
    if symmetric:
        zero = (info.max + info.min + 1) // 2
        scale = _scale(max(-low, high) / (info.max - zero))
    else:
        scale = _scale((high - low) / (info.max - info.min))
        zero = min(max(round(info.min - low / float(scale)), info.min), info.max)
    return scale, _integer(zero, info.dtype)


def quantize(
    x: NDArray[Any], scale: np.float32, zero_point: np.integer[Any], dtype: DTypeLike = np.uint8
) -> NDArray[np.integer[Any]]:
    """Codes of `x` (any shape) by one scale."""
    info = np.iinfo(np.dtype(dtype))
    codes = np.rint(np.asarray(x, np.float32) / scale) + np.float32(zero_point)
    limited: NDArray[np.integer[Any]] = np.clip(codes, info.min, info.max).astype(info.dtype)
    return limited


def quantize_per_channel(
    weight: NDArray[Any],
    axis: int | None,
    *,
    bits: int = 8,
    symmetric: bool = True,
    reduce_range: bool = False,
    scale_method: ScaleMethod = "minmax",
) -> tuple[Codes, NDArray[np.float32], Codes]:
    """Codes, scales and zero points of a weight, one scale per index of `axis` (None: one for all).

    weight: any shape, finite floats;  bits: 2 to 8
    symmetric: int8 codes in +-(2^(bits-1) - 1), zero points 0;  otherwise uint8 codes in 0 .. 2^bits - 1
    reduce_range: one bit less, so that pairs of uint8 x int8 products fit 16 bits: codes within +-64 (of 8 bits),
        255 * 64 * 2 < 2^15, for x86 without VNNI
    scale_method: 'minmax' covers every weight;  'mse' shrinks each channel's range to the least squared error,
        found on a grid from 1 to 0.3 of minmax, so never worse than it
    returns codes like weight, scale float32 [channels] and zero_point [channels] ([] when axis is None);
        a channel of zeros has scale 1
    """
    values = np.asarray(weight, dtype=np.float32)
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    floor, ceiling = _code_limits(bits, symmetric, reduce_range)
    blocks = Blocks.of(rows, max(rows.shape[1], 1), floor, ceiling)
    ends = minmax(blocks, None) if scale_method == "minmax" else mse(blocks, None)
    scales, zeros = blocks.parameters(*ends)
    scale, zero = scales[:, 0], zeros[:, 0]
    dtype = np.int8 if symmetric else np.uint8
    codes = _row_codes(rows, scale, zero, floor, ceiling).astype(dtype)
    if axis is None:
        return codes.reshape(values.shape), scale.reshape(()), zero.astype(dtype).reshape(())
    moved = (values.shape[axis], *np.delete(values.shape, axis).tolist())
    return np.ascontiguousarray(np.moveaxis(codes.reshape(moved), 0, axis)), scale, zero.astype(dtype)


def dequantize(
    codes: NDArray[Any], scale: NDArray[np.float32] | np.float32, zero_point: Any = 0, axis: int | None = None
) -> NDArray[np.float32]:
    """(codes - zero_point) * scale. scale, zero_point: scalars, or [channels] along `axis`."""
    shape = [1] * codes.ndim
    if axis is not None:
        shape[axis] = codes.shape[axis]
    zero = np.broadcast_to(np.asarray(zero_point, np.int32), np.shape(scale)).reshape(shape)
    centered = codes.astype(np.int32) - zero
    return centered.astype(np.float32) * np.asarray(scale, np.float32).reshape(shape)


def _scale(scale: float) -> np.float32:
    return np.float32(max(scale, SMALLEST_SCALE) if scale > 0 else 1.0)


def _integer(value: int, dtype: np.dtype[Any]) -> np.integer[Any]:
    scalar: np.integer[Any] = dtype.type(value)
    return scalar


def _code_limits(bits: int, symmetric: bool, reduce_range: bool) -> tuple[int, int]:
    if symmetric:
        limit = (1 << (bits - 2)) if reduce_range else (1 << (bits - 1)) - 1
        return -limit, limit
    return 0, (1 << (bits - reduce_range)) - 1


def _row_codes(
    rows: NDArray[np.float32], scale: NDArray[np.float32], zero: NDArray[np.int32], floor: int, ceiling: int
) -> NDArray[np.float32]:
    codes: NDArray[np.float32] = np.rint(rows / scale[:, None])
    codes += zero[:, None].astype(np.float32)
    codes.clip(floor, ceiling, out=codes)
    return codes
