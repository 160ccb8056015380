"""Pooling of NHWC data into the tensor expressions that schedules.channelwise knows."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.relax.transform.legalize_ops.nn import _nn_avg_pool2d, _nn_max_pool2d

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.schedules.channelwise import LOWEST
from lwc.backends.tvm.schedules.conv_plan import Conv

WIDEST_WINDOW = 64  # whose taps are all written out


def max_pool2d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """The greatest value of each window; as TVM writes it where the layout or a size is not ours."""
    window, dtype = described(call), str(call.args[0].ty.dtype)
    if window is None or dtype not in LOWEST:
        return _nn_max_pool2d(bb, call)
    return bb.call_te(
        lambda data: windows(data, window, "lwc.maximum", LOWEST[dtype]), call.args[0],
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="max_pool2d",
    )  # fmt: skip


def avg_pool2d(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """The mean of each window, of the values within the data alone unless padding counts; else as TVM writes it."""
    window = described(call)
    ours = str(call.args[0].ty.dtype) == "float32" and not (call.attrs.count_include_pad and call.attrs.ceil_mode)
    if window is None or not ours:
        return _nn_avg_pool2d(bb, call)
    padded = bool(call.attrs.count_include_pad)
    return bb.call_te(
        lambda data: mean(windows(data, window, "lwc.sum", 0.0), window, padded), call.args[0],
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="avg_pool2d",
    )  # fmt: skip


def described(call: relax.Call) -> Conv | None:
    """The window of a pooling of NHWC data of known size; None for another."""
    (data,), attrs = call.args, call.attrs
    shapes = [value.ty.shape for value in (data, call)]
    known = all(isinstance(size, tirx.IntImm) for shape in shapes for size in shape or [None])
    if (attrs.layout, attrs.out_layout) != ("NHWC", "NHWC") or not known:
        return None
    (n, h, w, c), (_, oh, ow, _) = ([int(size) for size in shape] for shape in shapes)
    if int(attrs.pool_size[1]) > WIDEST_WINDOW:
        return None
    (kh, kw), (sy, sx), (dy, dx) = (
        [int(size) for size in sizes] for sizes in (attrs.pool_size, attrs.strides, attrs.dilation)
    )
    top, left = (int(size) for size in attrs.padding[:2])
    return Conv(n, h, w, c, oh, ow, c, kh, kw, sy, sx, top, left, dy, dx, c)


def windows(data: te.Tensor, window: Conv, annotation: str, initial: float) -> te.Tensor:
    """data [n, h, w, c] -> greatest value or sum of each window [n, oh, ow, c]"""
    ky, kx = (te.reduce_axis((0, size)) for size in (window.kernel_height, window.kernel_width))
    reduce = te.sum if annotation == "lwc.sum" else te.max

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * window.stride_y + ky * window.dilation_y - window.top
        column = x * window.stride_x + kx * window.dilation_x - window.left
        inside = tirx.all(row >= 0, row < window.height, column >= 0, column < window.width)
        outside = tirx.const(initial, data.dtype)
        return reduce(tirx.if_then_else(inside, data[n, row, column, c], outside), axis=[ky, kx])

    shape = (window.batch, window.out_height, window.out_width, window.channels)
    return te.compute(shape, element, name="window", attrs={annotation: window.numbers()})


def mean(sums: te.Tensor, window: Conv, padded: bool) -> te.Tensor:
    """Sums of windows over how many values each has; padded: all, or those within the data"""

    def count(at: Any, kernel: int, stride: int, dilation: int, before: int, size: int) -> Any:
        first = at * stride - before
        start = tirx.max(0, (before - at * stride + dilation - 1) // dilation)
        stop = tirx.min(kernel, (size - 1 - first) // dilation + 1)
        return stop - start

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        if padded:
            return sums[n, y, x, c] * (1.0 / (window.kernel_height * window.kernel_width))
        down = count(y, window.kernel_height, window.stride_y, window.dilation_y, window.top, window.height)
        across = count(x, window.kernel_width, window.stride_x, window.dilation_x, window.left, window.width)
        return sums[n, y, x, c] / (tirx.max(1, down) * tirx.max(1, across)).astype("float32")

    return te.compute(sums.shape, element, name="mean")
