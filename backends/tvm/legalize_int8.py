"""Convolutions and matrix products of bytes into what schedules.int8 and schedules.channelwise know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx
from tvm.ir import GenericConst

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.legalize_conv import channel_by_channel
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile, candidates, cycles
from lwc.backends.tvm.schedules.int8 import ANNOTATION, Sums, steps
from lwc.backends.tvm.schedules.int8_dot import Dot

TILE_BYTES = 64  # of a row
SIGN = 128  # by which bytes with and without a sign differ
# Products of a window that float32 adds up exactly: each is below 2**15, sums must stay below 2**24.
EXACT_IN_FLOAT = 2**9
MOST_SUMS = 2**8  # of a tile, which TVM keeps on the stack: others it writes to memory of their own


def bytes_conv2d(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr | None:
    """relax.nn.conv2d of bytes in NHWC and OHWI, dense or depthwise; None for others."""
    if not _of_bytes(call):
        return None
    attrs, data = call.attrs, call.args[0]
    weight = call.args[1].value.numpy()
    (n, h, w, c), (_, oh, ow, o) = _sizes(data), _sizes(call)
    (_, ky, kx, _), (top, left, _, _) = weight.shape, (int(size) for size in attrs.padding)
    (sy, sx), (dy, dx) = (int(size) for size in attrs.strides), (int(size) for size in attrs.dilation)
    groups = int(attrs.groups)
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NHWC", "OHWI", "NHWC"):
        return None
    conv = Conv(n, h, w, c, oh, ow, o, ky, kx, sy, sx, top, left, dy, dx, groups)
    if groups == c == o and ky * kx <= EXACT_IN_FLOAT:
        return _depthwise(bb, data, weight, conv)
    if groups != 1 or dx != 1:
        return None
    dot = Dot.of(machine, str(data.ty.dtype))
    conv = _padded(conv, dot)
    x = _prepared(bb, data, [n, conv.height, conv.width, c], (0, top, left, 0), dot)
    return _dense(bb, call, x, weight, conv, dot, machine)


def bytes_matmul(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr | None:
    """relax.matmul of bytes by a constant matrix [k, o]; None for others."""
    if not _of_bytes(call) or len(call.args[1].ty.shape) != 2 or len(call.args[0].ty.shape) < 2:
        return None
    data, weight = call.args[0], call.args[1].value.numpy().T
    dot = Dot.of(machine, str(data.ty.dtype))
    (*outer, k), o = _sizes(data), weight.shape[0]
    whole = -(-k // dot.together) * dot.together
    conv = Conv(1, 1, math.prod(outer), whole, 1, math.prod(outer), o, 1, 1, 1, 1, 0, 0, 1, 1, 1)
    x = _prepared(bb, data, [*outer, whole], (0,) * len(_sizes(data)), dot)
    return _dense(bb, call, x, np.pad(weight, [(0, 0), (0, whole - k)]).reshape(o, 1, 1, whole), conv, dot, machine)


def few_bytes(call: relax.Call) -> bool:
    """Whether fewer bytes are summed than a row of a tile holds: tiles would multiply mostly zeros."""
    if not _of_bytes(call):
        return False
    shape = _sizes(call.args[1])
    return (shape[0] if len(shape) == 2 else math.prod(shape[1:])) < TILE_BYTES


def _of_bytes(call: relax.Call) -> bool:
    data, weight = call.args
    known = all(isinstance(size, tirx.IntImm) for value in (data, weight, call) for size in value.ty.shape or [None])
    kinds = tuple(str(value.ty.dtype) for value in (data, weight, call))
    constant = known and isinstance(weight, GenericConst)
    return constant and kinds[0] in ("uint8", "int8") and kinds[1:] == ("int8", "int32")


def _depthwise(bb: relax.BlockBuilder, data: relax.Expr, weight: NDArray[np.int8], conv: Conv) -> relax.Expr:
    """Sums in float32, which are exact: conversions are shared by neighbouring pixels, and it multiplies faster."""
    packed = relax.const(np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0)).astype(np.float32))
    sums = bb.call_te(
        lambda data, weight: channel_by_channel(data, weight, conv), data, packed,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="depthwise_conv2d",
    )  # fmt: skip
    return relax.op.astype(bb.emit(sums), "int32")


def _padded(conv: Conv, dot: Dot) -> Conv:
    """The convolution of data that holds its padding, and a pixel more in each row where the last step reads it."""
    beyond = int(conv.kernel_width * conv.channels % dot.together != 0)
    rows = (conv.out_height - 1) * conv.stride_y + (conv.kernel_height - 1) * conv.dilation_y + 1
    columns = (conv.out_width - 1) * conv.stride_x + conv.kernel_width + beyond
    if not (conv.top or conv.left) and conv.height >= rows and conv.width >= columns:
        return conv
    return replace(conv, height=rows, width=columns, top=0, left=0)


def _prepared(bb: relax.BlockBuilder, data: relax.Expr, shape: list[int], start: Sequence[int], dot: Dot) -> relax.Expr:
    """Data of the shape and type that the kernel reads, its first element at `start`, zeros around."""
    if shape == _sizes(data) and str(data.ty.dtype) == dot.data_type:
        return data

    def prepared(data: te.Tensor) -> te.Tensor:
        def element(*at: Any) -> Any:
            source = [place - first for place, first in zip(at, start, strict=True)]
            inside = [
                tirx.all(place >= 0, place < size)
                for place, size, whole in zip(source, data.shape, shape, strict=True) if int(size) != whole
            ]  # fmt: skip
            value = data(*source)
            if inside:
                value = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, data.dtype))
            if str(data.dtype) != dot.data_type:
                value = (value.astype("uint8") ^ tirx.const(SIGN, "uint8")).astype(dot.data_type)
            return value

        return te.compute(shape, element, name="prepared")

    return bb.emit(bb.call_te(prepared, data, primfunc_name_hint="prepared"))


def _dense(
    bb: relax.BlockBuilder, call: relax.Call, x: relax.Expr, weight: NDArray[np.int8], conv: Conv, dot: Dot,
    machine: Machine,
) -> relax.Expr:  # fmt: skip
    """weight [o, ky, kx, c];  sums of what `_prepared` gave, with the sign put right"""
    sums, shape = Sums(conv, dot.data_type, dot.together), _sizes(call)
    tile = _tile(sums, dot, machine)
    found = bb.call_te(
        lambda data, weight: sums_of(data, weight, sums, tile, shape), x, relax.const(packed(weight, sums, tile)),
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="bytes",
    )  # fmt: skip
    given = str(call.args[0].ty.dtype)
    if given == dot.data_type:
        return found
    total = weight.astype(np.int32).sum(axis=(1, 2, 3), dtype=np.int32) * SIGN
    correction = (total if given == "uint8" else -total).reshape([1] * (len(shape) - 1) + [-1])
    return relax.op.add(bb.emit(found), relax.const(correction))


def _tile(sums: Sums, dot: Dot, machine: Machine) -> Tile:
    """The tile measured fastest; else as of a float convolution whose steps take as many bytes as the instruction."""
    like = replace(sums.conv, channels=steps(sums.conv, sums.together), kernel_width=1)
    whole = (
        tile if tile.lanes == dot.lanes else replace(tile, vectors=1, lanes=dot.lanes)
        for tile in candidates(like, machine)
    )  # fmt: skip
    small = (tile for tile in whole if tile.pixels * tile.channels < MOST_SUMS)
    return machine.tuned.best(sums, small, lambda tile: cycles(like, tile, machine))


def packed(weight: NDArray[np.int8], sums: Sums, tile: Tile) -> NDArray[np.int8]:
    """weight [o, ky, kx, c] -> [blocks, ky, steps, channels of a tile x together], zeros beyond."""
    o, ky, run = weight.shape[0], weight.shape[1], weight.shape[2] * weight.shape[3]
    blocks, count = math.ceil(o / tile.channels), math.ceil(run / sums.together)
    padded = np.zeros((blocks * tile.channels, ky, count * sums.together), np.int8)
    padded[:o, :, :run] = weight.reshape(o, ky, run)
    split = padded.reshape(blocks, tile.channels, ky, count, sums.together).transpose(0, 2, 3, 1, 4)
    return np.ascontiguousarray(split).reshape(blocks, ky, count, -1)


def sums_of(data: te.Tensor, weight: te.Tensor, sums: Sums, tile: Tile, shape: Sequence[int]) -> te.Tensor:
    """The sums [*shape] as schedules.int8 knows them. data: padded;  weight: packed for the tile"""
    conv, together = sums.conv, sums.together
    ky, run = (te.reduce_axis((0, size)) for size in (conv.kernel_height, conv.kernel_width * conv.channels))

    def element(*at: Any) -> Any:
        *outer, o = at
        if conv.kernel_height * conv.kernel_width * conv.stride_y * conv.stride_x > 1:
            n, y, x = outer
            column = x * conv.stride_x + run // conv.channels
            outer = [n, y * conv.stride_y + ky * conv.dilation_y, column]
        value = data(*outer, run % conv.channels).astype("int32")
        factor = weight[o // tile.channels, ky, run // together, o % tile.channels * together + run % together]
        return te.sum(value * factor.astype("int32"), axis=[ky, run])

    annotation = [*conv.numbers(), *astuple(tile)]
    return te.compute(shape, element, name="bytes", attrs={ANNOTATION: annotation})


def _sizes(value: relax.Expr) -> list[int]:
    return [int(size) for size in value.ty.shape]
