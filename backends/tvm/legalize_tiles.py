"""Convolutions and matrix products onto AMX tiles: integer ones always, float ones where bfloat16 is asked for.

Data is brought to the tile's type and padded before; both are elementwise and join what computed the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx
from tvm.ir import GenericConst
from tvm.s_tir import Schedule

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.legalize_conv import WIDEST_DEPTHWISE, channel_by_channel, described
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.channelwise import BITS as BITS
from lwc.backends.tvm.schedules.channelwise import as_float
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.tile_blocks import ROWS, Product, best_block, configuration, packed_weight, padded_shape
from lwc.backends.tvm.tile_kernels import INSTRUCTIONS, TILES, kernel
from lwc.backends.tvm.tuned import Tuned

NHWC, CROP = "NHWC", "crop"
# Of NHWC, the axes of what has fewer.
_LEFT: Mapping[int, Callable[..., list[Any]]] = {2: lambda n, y, x, c: [x, c], 3: lambda n, y, x, c: [n, x, c]}
LEAST_ROWS = 4  # of a tile: below that most of each multiplication is idle


def tiled_conv2d(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr | None:
    """relax.nn.conv2d in NHWC and OHWI with constant weights, one group; None for others."""
    data, weight = call.args
    attrs = call.attrs
    dtype = _tile_type(call, machine)
    conv = described(call) if dtype == BITS else None
    if conv is not None and conv.depthwise and conv.kernel_width <= WIDEST_DEPTHWISE:
        return _depthwise(bb, data, weight.value.numpy(), conv)
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    dense = int(attrs.groups) == 1 and all(int(d) == 1 for d in attrs.dilation)
    if dtype is None or layouts != ("NHWC", "OHWI", "NHWC") or not dense:
        return None
    (n, _, _, c), (o, ky, kx, _), (_, oh, ow, _) = (_sizes(value) for value in (data, weight, call))
    product = Product(oh, ow, c, o, dtype, ky, kx, int(attrs.strides[0]), int(attrs.strides[1]))
    top, left = int(attrs.padding[0]), int(attrs.padding[1])
    return _emit(bb, data, weight.value.numpy(), product, n, (top, left), machine.tuned)


def tiled_matmul(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr | None:
    """relax.matmul by a constant matrix [K, N]; None for others, and for few rows."""
    data, weight = call.args
    dtype = _tile_type(call, machine)
    if dtype is None or len(_sizes(weight)) != 2:
        return None
    *outer, rows, k = [1, *_sizes(data)]
    batch, columns = math.prod(outer), _sizes(weight)[1]
    if batch > 1 and (rows % ROWS or len(outer) > 2):
        batch, rows = 1, batch * rows
    if rows < LEAST_ROWS:
        return None
    given, made, sizes = [batch, rows, k], [batch, rows, columns], _sizes(call)
    data = data if _same(given, _sizes(data)) else bb.emit(relax.op.reshape(data, given))
    matrix = weight.value.numpy().T.reshape(columns, 1, 1, k)
    product = Product(1, rows, k, columns, dtype)
    if _same(made, sizes):
        return _emit(bb, data, matrix, product, batch, (0, 0), machine.tuned, sizes)
    return relax.op.reshape(bb.emit(_emit(bb, data, matrix, product, batch, (0, 0), machine.tuned, made)), sizes)


def _same(three: list[int], sizes: list[int]) -> bool:
    """Whether these are the sizes of what has one axis for the batch, or none where that is 1."""
    return sizes == three or [1, *sizes] == three


def _depthwise(bb: relax.BlockBuilder, data: relax.Expr, weight: NDArray[np.float32], conv: Conv) -> relax.Expr:
    """Each channel by itself, which no tile holds: half the bytes to read, and sums in float32."""
    bits = bb.emit(bb.call_te(as_bfloat16, data, primfunc_name_hint="as_bfloat16"))
    packed = relax.const(np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0)))

    def sums(bits: te.Tensor, weight: te.Tensor) -> te.Tensor:
        wide = te.compute(bits.shape, lambda *at: as_float(bits(*at)), name="wide")
        return channel_by_channel(wide, weight, conv)

    return bb.call_te(
        sums, bits, packed,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="depthwise_conv2d",
    )  # fmt: skip


def _tile_type(call: relax.Call, machine: Machine) -> str | None:
    """The tile's type that this call's data can have."""
    data, weight = call.args
    known = all(isinstance(size, tirx.IntImm) for value in (data, weight, call) for size in value.ty.shape or [None])
    if not (machine.tiles and known and isinstance(weight, GenericConst)):
        return None
    kinds = tuple(str(value.ty.dtype) for value in (data, weight, call))
    if kinds[0] in ("uint8", "int8") and kinds[1:] == ("int8", "int32"):
        return kinds[0]
    return BITS if machine.bfloat16 and kinds == ("float32",) * 3 else None


def _emit(
    bb: relax.BlockBuilder, data: relax.Expr, weight: NDArray[Any], product: Product, batch: int,
    start: tuple[int, int], tuned: Tuned, out: Sequence[int] = (),
) -> relax.Expr:  # fmt: skip
    """out: sizes of what is made, the sums of pixels in NHWC where none are named"""
    block = best_block(product, tuned)
    if product.dtype == BITS:
        data = bb.emit(bb.call_te(as_bfloat16, data, primfunc_name_hint="as_bfloat16"))
        weight = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
    shape, rank = padded_shape(product, block), len(_sizes(data))
    if ([1, *_sizes(data)[-2:-1]] if rank < len(NHWC) else _sizes(data)[1:3]) != list(shape):
        if rank < len(NHWC):
            data = bb.emit(relax.op.reshape(data, (batch, 1, *_sizes(data)[-2:])))
        data = bb.emit(bb.call_te(_padded, data, shape, start, primfunc_name_hint="padded"))
    constants = relax.const(packed_weight(weight, product, block)), relax.const(configuration(block))
    out = out or (batch, product.height, product.width, product.outputs)
    gv = bb.add_func(_of_ranks(kernel(product, block, batch), len(_sizes(data)), len(out)), "tiles")
    return relax.call_tir(gv, [data, *constants], relax.TensorType(out, INSTRUCTIONS[product.dtype][1]))


def _of_ranks(func: tirx.PrimFunc, data: int, out: int) -> tirx.PrimFunc:
    """The kernel on data, and with a result, of so many axes: the image's rows, then the batch, are left out."""
    s = Schedule(func)
    for name, side, rank in ((TILES, "read", data), (CROP, "write", out)):
        if rank < len(NHWC):
            s.transform_layout(s.get_sblock(name), (side, 0), _LEFT[rank])
    if out < len(NHWC):
        s.transform_block_layout(s.get_sblock(CROP), _LEFT[out])
    return s.mod["main"]


def as_bfloat16(data: te.Tensor) -> te.Tensor:
    """The bits of the nearest bfloat16, ties to even; of float32."""

    def bits(*at: Any) -> Any:
        whole = tirx.reinterpret("uint32", data(*at))
        return ((whole + tirx.const(0x7FFF, "uint32") + ((whole >> 16) & tirx.const(1, "uint32"))) >> 16).astype(BITS)

    return te.compute(data.shape, bits, name="as_bfloat16")


def _padded(data: te.Tensor, shape: tuple[int, int], start: tuple[int, int]) -> te.Tensor:
    """data [n, h, w, c] in the middle of zeros [n, *shape, c], from the place `start`; cut where it is longer."""
    n, height, width, c = data.shape
    top, left = start

    def element(b: Any, y: Any, x: Any, k: Any) -> Any:
        inside = tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return tirx.if_then_else(inside, data[b, y - top, x - left, k], tirx.const(0, data.dtype))

    return te.compute((n, *shape, c), element, name="padded")


def _sizes(value: relax.Expr) -> list[int]:
    return [int(size) for size in value.ty.shape]
