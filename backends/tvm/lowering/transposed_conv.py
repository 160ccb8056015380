"""ConvTranspose as a convolution at the input's resolution that gives all the pixels between, then interleaved.

With stride s, output pixel j reads kernel elements k = r + s m, where r is j's place among s neighbours: so the kernel
is s^d convolutions of ceil(K / s) elements each (Shi et al. 2016, sec. 3.2), and no zero is multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, shape_of, text_of

CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}


def conv_transpose(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """ConvTranspose in one, two or three dimensions."""
    x, weight, bias = [*inputs, None][:3]
    batch, _, *size = shape_of(x)
    spatial = len(size)
    if spatial not in CONVOLUTIONS:
        raise NotImplementedError(f"it has {spatial} spatial dimensions.")
    strides = list(attrs.get("strides", [1] * spatial))
    groups = attrs.get("group", 1)
    weight = _dilated(bb, weight, list(attrs.get("dilations", [1] * spatial)))
    kernel = shape_of(weight)[2:]
    out_channels = shape_of(weight)[1] * groups
    begins, made = _cut(attrs, size, kernel, strides)
    taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    phases = _phases(bb, weight, groups, strides, taps)
    padding = [tap - 1 for tap in taps] * 2
    dense = bb.emit(CONVOLUTIONS[spatial](x, phases, padding=padding, groups=groups))
    full = _interleaved(bb, dense, [batch, out_channels], strides)
    result = _window(bb, full, begins, made)
    return result if bias is None else relax.op.add(result, relax.op.reshape(bias, [1, -1, *([1] * spatial)]))


def _dilated(bb: Builder, weight: relax.Expr, dilations: Sequence[int]) -> relax.Expr:
    """The kernel with zeros between its elements."""
    for axis, dilation in enumerate(dilations, 2):
        if dilation > 1:
            dims = shape_of(weight)
            apart = relax.op.reshape(weight, [*dims[: axis + 1], 1, *dims[axis + 1 :]])
            widths = [0] * (2 * len(dims) + 2)
            widths[2 * axis + 3] = dilation - 1
            spread = [*dims[:axis], dims[axis] * dilation, *dims[axis + 1 :]]
            wide = relax.op.reshape(relax.op.nn.pad(apart, widths), spread)
            weight = bb.emit(relax.op.strided_slice(wide, [axis], [0], [(dims[axis] - 1) * dilation + 1]))
    return weight


def _phases(
    bb: Builder, weight: relax.Expr, groups: int, strides: Sequence[int], taps: Sequence[int]
) -> relax.Expr:
    """[in, out / groups, kernel ...] -> [out * phases, in / groups, taps ...], taps backwards as convolutions want."""
    inner, outer, *kernel = shape_of(weight)
    spatial = range(len(kernel))
    widths = [0, 0, 0, 0]
    for k in spatial:
        widths += [0, taps[k] * strides[k] - kernel[k]]
    padded = relax.op.nn.pad(weight, widths) if any(widths) else weight
    apart = [size for k in spatial for size in (taps[k], strides[k])]
    split = relax.op.reshape(padded, [groups, inner // groups, outer, *apart])
    order = [0, 2, *(4 + 2 * k for k in spatial), 1, *(3 + 2 * k for k in spatial)]
    ordered = relax.op.permute_dims(split, order)
    count = groups * outer
    for stride in strides:
        count *= stride
    merged = relax.op.reshape(ordered, [count, inner // groups, *taps])
    for k in spatial:
        merged = relax.op.flip(merged, 2 + k) if taps[k] > 1 else merged
    return bb.emit(merged)


def _interleaved(bb: Builder, dense: relax.Expr, lead: list[int], strides: Sequence[int]) -> relax.Expr:
    """[batch, out * phases, size ...] -> [batch, out, size * stride ...]."""
    size = shape_of(dense)[2:]
    if all(stride == 1 for stride in strides):
        return dense
    spatial = range(len(size))
    split = relax.op.reshape(dense, [*lead, *strides, *size])
    order = [0, 1, *(axis for k in spatial for axis in (2 + len(size) + k, 2 + k))]
    merged = [s * stride for s, stride in zip(size, strides, strict=True)]
    return bb.emit(relax.op.reshape(relax.op.permute_dims(split, order), [*lead, *merged]))


def _cut(
    attrs: dict[str, Any], size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Where the result begins in the whole, and how large it is (ONNX ConvTranspose, total_padding)."""
    extra = attrs.get("output_padding", [0] * len(size))
    whole = [(n - 1) * s + k + e for n, s, k, e in zip(size, strides, kernel, extra, strict=True)]
    mode = text_of(attrs, "auto_pad", "NOTSET")
    wanted = attrs.get("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [min(n * s, w) for n, s, w in zip(size, strides, whole, strict=True)]
    if wanted is None:
        pads = attrs.get("pads", [0] * (2 * len(size))) if mode == "NOTSET" else [0] * (2 * len(size))
        begins, ends = pads[: len(size)], pads[len(size) :]
        return list(begins), [w - a - b for w, a, b in zip(whole, begins, ends, strict=True)]
    wanted = list(wanted)[-len(size) :]
    totals = [w - n for w, n in zip(whole, wanted, strict=True)]
    return [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals], wanted


def _window(bb: Builder, full: relax.Expr, begins: Sequence[int], made: Sequence[int]) -> relax.Expr:
    """The result's part of the whole; beyond it there are zeros."""
    dims = shape_of(full)
    before = [max(-begin, 0) for begin in begins]
    after = [max(begin + size - dim, 0) for begin, size, dim in zip(begins, made, dims[2:], strict=True)]
    if any(before) or any(after):
        widths = [0, 0, 0, 0, *(side for pair in zip(before, after, strict=True) for side in pair)]
        full = bb.emit(relax.op.nn.pad(full, widths))
    starts = [begin + pad for begin, pad in zip(begins, before, strict=True)]
    if starts == [0] * len(starts) and list(made) == shape_of(full)[2:]:
        return full
    ends = [start + size for start, size in zip(starts, made, strict=True)]
    return bb.emit(relax.op.strided_slice(full, [2 + k for k in range(len(made))], starts, ends))


RULES = {"ConvTranspose": conv_transpose}
