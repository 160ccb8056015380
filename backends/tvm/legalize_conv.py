"""Convolutions into the tensor expressions that schedules.conv and schedules.channelwise know, weights packed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import ir, relax, te, tirx, topi
from tvm.relax.transform.legalize_ops.nn import _nn_conv2d

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.legalize_winograd import choice, filtered
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules import conv as conv_schedule
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.backends.tvm.schedules.rows import Rows

WIDEST_DEPTHWISE = 64  # whose taps are all written out
MOST_BORDER_TAPS = 48  # beyond, code for the border grows too large and the data is padded first


def packed_conv2d(machine: Machine) -> Callable[[relax.BlockBuilder, relax.Call], relax.Expr]:
    """The legalization of relax.nn.conv2d for this machine."""
    return lambda bb, call: conv2d(bb, call, machine)


def conv2d(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr:
    """A convolution of float data, NHWC or few planes, with constant weights; others as TVM writes them."""
    data, weight = call.args
    conv = described(call)
    if conv is None or (conv.depthwise and conv.kernel_width > WIDEST_DEPTHWISE):
        return _nn_conv2d(bb, call)
    if conv.depthwise:
        return depthwise(bb, data, weight.value.numpy(), conv)
    tile = choice(conv, weight.value.numpy(), machine)
    if not isinstance(tile, Tile):
        return filtered(bb, data, weight.value.numpy(), conv, tile)
    if Rows(conv, tile.pixels).border_taps() > MOST_BORDER_TAPS:
        data, conv = padded(bb, data, conv, call.attrs.padding)
    packed = relax.const(pack(weight.value.numpy(), conv, tile))
    return bb.call_te(
        lambda data, weight: direct(data, weight, conv, tile), data, packed,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="conv2d",
    )  # fmt: skip


def padded(bb: relax.BlockBuilder, data: relax.Expr, conv: Conv, padding: Any) -> tuple[relax.Expr, Conv]:
    """The data with its padding as zeros, and the convolution of that."""
    top, left, bottom, right = (int(size) for size in padding)
    widths = [0, 0, 0, 0, top, bottom, left, right] if conv.planes else [0, 0, top, bottom, left, right, 0, 0]
    whole = replace(
        conv, height=conv.height + top + bottom, width=conv.width + left + right, top=0, left=0
    )  # fmt: skip
    before, after = widths[::2], widths[1::2]
    return bb.emit_te(topi.nn.pad, data, before, after, 0.0), whole


def depthwise(bb: relax.BlockBuilder, data: relax.Expr, weight: np.ndarray, conv: Conv) -> relax.Expr:
    """weight [c, ky, kx, 1], packed as [ky, kx, c]"""
    packed = relax.const(np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0)))
    return bb.call_te(
        lambda data, weight: channel_by_channel(data, weight, conv), data, packed,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="depthwise_conv2d",
    )  # fmt: skip


def described(call: relax.Call) -> Conv | None:
    """The sizes of a convolution in our layouts, float and with constant weights; None for another."""
    data, weight = call.args
    attrs, shapes = call.attrs, [value.ty.shape for value in (data, weight, call)]
    planes = attrs.data_layout == "NCHW"
    ours = planes or attrs.data_layout == "NHWC"
    ours = ours and (attrs.kernel_layout, attrs.out_layout) == ("OHWI", "NHWC")
    known = all(isinstance(size, tirx.IntImm) for shape in shapes for size in shape or [None])
    if not (ours and known and isinstance(weight, ir.Constant) and call.ty.dtype == data.ty.dtype == "float32"):
        return None
    if planes:
        shapes[0] = [shapes[0][axis] for axis in (0, 2, 3, 1)]
    (n, h, w, c), (_, kh, kw, _), (_, oh, ow, o) = ([int(size) for size in shape] for shape in shapes)
    top, left, _, _ = (int(size) for size in attrs.padding)
    (sy, sx), (dy, dx) = (int(size) for size in attrs.strides), (int(size) for size in attrs.dilation)
    return Conv(n, h, w, c, oh, ow, o, kh, kw, sy, sx, top, left, dy, dx, int(attrs.groups), int(planes))


def pack(weight: np.ndarray, conv: Conv, tile: Tile) -> np.ndarray:
    """weight [o, ky, kx, c] -> [groups * blocks, ky, kx, c, channels of a tile], zeros where channels end."""
    blocks = tile.blocks(conv)
    grouped = weight.reshape(conv.groups, conv.group_out, *weight.shape[1:])
    grouped = np.pad(grouped, [(0, 0), (0, blocks * tile.channels - conv.group_out), (0, 0), (0, 0), (0, 0)])
    blocked = grouped.reshape(conv.groups * blocks, tile.channels, *weight.shape[1:])
    return np.ascontiguousarray(blocked.transpose(0, 2, 3, 4, 1))


def direct(data: te.Tensor, weight: te.Tensor, conv: Conv, tile: Tile) -> te.Tensor:
    """data [n, h, w, c] or planes of it, weight as `pack` gives it -> [n, oh, ow, o]"""
    ky, kx, c = (te.reduce_axis((0, size)) for size in (conv.kernel_height, conv.kernel_width, conv.group_in))

    def element(n: Any, y: Any, x: Any, o: Any) -> Any:
        group, within = o // conv.group_out, o % conv.group_out
        row = y * conv.stride_y + ky * conv.dilation_y - conv.top
        column = x * conv.stride_x + kx * conv.dilation_x - conv.left
        inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
        place = (n, c, row, column) if conv.planes else (n, row, column, group * conv.group_in + c)
        value = tirx.if_then_else(inside, data[place], 0.0)
        block = group * tile.blocks(conv) + within // tile.channels
        return te.sum(value * weight[block, ky, kx, c, within % tile.channels], axis=[ky, kx, c])

    shape = (conv.batch, conv.out_height, conv.out_width, conv.out_channels)
    annotation = [*conv.numbers(), tile.pixels, tile.vectors, tile.lanes, tile.unroll]
    return te.compute(shape, element, name="conv", attrs={conv_schedule.ANNOTATION: annotation})


def channel_by_channel(data: te.Tensor, weight: te.Tensor, conv: Conv) -> te.Tensor:
    """data [n, h, w, c], weight [ky, kx, c] -> [n, oh, ow, c]"""
    ky, kx = (te.reduce_axis((0, size)) for size in (conv.kernel_height, conv.kernel_width))

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * conv.stride_y + ky * conv.dilation_y - conv.top
        column = x * conv.stride_x + kx * conv.dilation_x - conv.left
        inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
        value = data[n, row, column, c].astype(weight.dtype)
        return te.sum(tirx.if_then_else(inside, value, 0.0) * weight[ky, kx, c], axis=[ky, kx])

    shape = (conv.batch, conv.out_height, conv.out_width, conv.channels)
    return te.compute(shape, element, name="depthwise", attrs={"lwc.depthwise": conv.numbers()})
