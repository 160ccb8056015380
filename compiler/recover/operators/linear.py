"""Products: convolutions, matrix products, sums of Einstein."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def paddings(
    a: Attributes, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """(begin, end) of each spatial axis, as auto_pad or pads say."""
    mode = a.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return [(0, 0)] * len(sizes)
    if mode == "NOTSET":
        pads = a.ints("pads") or [0] * (2 * len(sizes))
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    found = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (extent - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Spatial axes made longer; torch names the last one first."""
    if not any(begin or end for begin, end in pads):
        return x
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=value)


def conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    ones = [1] * len(kernel)
    strides, dilations = a.ints("strides", ones) or ones, a.ints("dilations", ones) or ones
    pads = paddings(a, x.shape[2:], kernel, strides, dilations)
    convolve = _CONVOLUTIONS[len(kernel) - 1]
    even = all(begin == end for begin, end in pads)
    if not even:
        x = padded(x, pads)
    padding = [begin for begin, _ in pads] if even else 0
    return convolve(x, weight, bias, strides, padding, dilations, a.integer("group", 1))


def conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The whole result, of which pads are cut off: torch knows no uneven ones."""
    kernel = list(weight.shape[2:])
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    strides, dilations = a.ints("strides", ones) or ones, a.ints("dilations", ones) or ones
    extra = a.ints("output_padding", zeros) or zeros
    full = _TRANSPOSED[len(kernel) - 1](x, weight, bias, strides, 0, 0, a.integer("group", 1), dilations)
    wanted = a.ints("output_shape")
    for k in range(len(kernel)):
        begin, end = _cut(a, k, len(kernel), full.shape[2 + k] + extra[k], strides[k] * x.shape[2 + k], wanted)
        full = _cropped(full, 2 + k, begin, full.shape[2 + k] + extra[k] - end, bias)
    return full


def _cut(a: Attributes, axis: int, rank: int, size: int, same: int, wanted: Sequence[int] | None) -> tuple[int, int]:
    """What leaves at the begin and end of an axis of this size.  same: the size that auto_pad wants"""
    mode = a.text("auto_pad", "NOTSET")
    if mode == "VALID" or (mode == "NOTSET" and wanted is None):
        pads = (a.ints("pads") if mode == "NOTSET" else None) or [0] * (2 * rank)
        return pads[axis], pads[axis + rank]
    total = size - (same if wanted is None else wanted[-rank + axis])
    less, more = total // 2, total - total // 2
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _cropped(x: Tensor, axis: int, begin: int, end: int, bias: Tensor | None) -> Tensor:
    missing = end - x.shape[axis]
    if missing > 0:  # output_padding: nothing but the bias reaches there
        shape = [*x.shape]
        shape[axis] = missing
        filler = x.new_zeros(shape)
        x = torch.cat([x, filler if bias is None else filler + bias.view(-1, *[1] * (x.ndim - 2))], axis)
    return x.narrow(axis, begin, end - begin)


def gemm(a: Attributes, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
    left, right = (x.T if a.flag("transA") else x), (y.T if a.flag("transB") else y)
    product = a.number("alpha", 1.0) * (left @ right)
    return product if z is None else product + a.number("beta", 1.0) * z


def fused_matmul(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    left, right = (x.mT if a.flag("transA") else x), (y.mT if a.flag("transB") else y)
    return a.number("alpha", 1.0) * (left @ right)


def einsum(a: Attributes, *xs: Tensor) -> Tensor:
    return torch.einsum(a.text("equation"), *xs)


OPERATORS: Mapping[str, Operator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "FusedMatMul": fused_matmul,
    "Gemm": gemm,
    "MatMul": lambda a, x, y: x @ y,
}
