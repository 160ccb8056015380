"""Convolutions and matrix products of codes: exact sums of 32 bits, scaled once.

    sum_k (x_k - z) s_x  w_ko s_o  =  s_x s_o (sum_k x_k w_ko - z sum_k w_ko)

x: bytes of one scale and zero point z;  w: constant int8, symmetric, one scale for each output o. (Jacob et al. 2018,
Quantization and training of neural networks for efficient integer-arithmetic-only inference, eq. 7.) Padding adds
x_k = z, not zero: where z is not zero data is padded with it before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from lwc.backends.tvm.lowering.expressions import array_of, const
from lwc.backends.tvm.lowering.quantized import BYTES, Quantized, bound, call_of, quantized

Integers = NDArray[np.integer[Any]]
LARGEST = 2**30  # of a bias, so that sums stay within 32 bits


def conv2d(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """relax.nn.conv2d, NCHW, of quantized data and constant weights [o, c, ky, kx]."""
    attrs = call.attrs
    operands = _operands(builder, call, output_axis=0)
    if operands is None or (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "OIHW"):
        return None
    data, weight, codes = operands
    zero_point, padding = int(data.zero_point), [int(size) for size in attrs.padding]
    x = data.codes
    if zero_point and any(padding):
        top, left, bottom, right = padding
        x, padding = builder.emit(_padded(x, [0, 0, 0, 0, top, bottom, left, right], zero_point)), [0, 0, 0, 0]
    sums = relax.op.nn.conv2d(
        x, const(codes), attrs.strides, padding, attrs.dilation, attrs.groups, "NCHW", "OIHW", out_dtype="int32"
    )
    shape = (1, -1, 1, 1)
    offset = -zero_point * codes.astype(np.int64).sum(axis=(1, 2, 3))
    scale = data.scale * _column(weight.scale, codes.shape[0])
    return _scaled(builder, sums, offset.reshape(shape), scale.reshape(shape))


def matmul(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """relax.matmul of quantized data and a constant matrix [k, o]."""
    operands = _operands(builder, call, output_axis=1)
    if operands is None or operands[2].ndim != 2:
        return None
    data, weight, codes = operands
    sums = relax.op.matmul(data.codes, const(codes), out_dtype="int32")
    offset = -int(data.zero_point) * codes.astype(np.int64).sum(axis=0)
    return _scaled(builder, sums, offset, data.scale * _column(weight.scale, codes.shape[1]))


def with_bias(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """scale (sums + offset) + bias = scale (sums + offset + bias / scale), to half a unit of the sums."""
    for value, other in (call.args, reversed(list(call.args))):
        bias, product = array_of(bound(builder, other)), call_of(builder, value, "relax.multiply")
        if bias is None or product is None or str(call.ty.dtype) != "float32":
            continue
        found = _parts(builder, product)
        if found is None or list(call.ty.shape) != list(value.ty.shape):
            continue
        sums, offset, scale = found
        if np.broadcast_shapes(bias.shape, scale.shape) != scale.shape:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.rint(bias.astype(np.float64) / scale)
        if np.all(np.abs(units) < LARGEST):
            return _scaled(builder, sums, offset + units.astype(np.int64), scale)
    return None


def _operands(
    builder: relax.BlockBuilder, call: relax.Call, output_axis: int
) -> tuple[Quantized, Quantized, Integers] | None:
    """Data, weight and its codes, where both are quantized as the equation above asks."""
    data, weight = (quantized(builder, argument) for argument in call.args)
    if data is None or weight is None or not data.per_tensor or str(data.codes.ty.dtype) not in BYTES:
        return None
    codes = array_of(bound(builder, weight.codes))
    if codes is None or codes.dtype != np.int8 or weight.zero_point.any():
        return None
    by_output = weight.scale.ndim == 0 or weight.axis == output_axis
    return (data, weight, codes) if by_output else None


def _padded(x: relax.Expr, widths: list[int], value: int) -> relax.Expr:
    return relax.op.nn.pad(x, widths, pad_value=value)


def _column(scale: NDArray[np.float32], outputs: int) -> NDArray[np.float32]:
    return np.broadcast_to(scale, (outputs,))


def _scaled(
    builder: relax.BlockBuilder, sums: relax.Expr, offset: Integers, scale: NDArray[np.float32]
) -> relax.Expr | None:
    """float32((sums + offset) scale); None where an offset is too large for 32 bits."""
    if np.any(np.abs(offset) >= LARGEST):
        return None
    if not isinstance(sums, relax.Var):
        sums = builder.emit(sums)
    if offset.any():
        sums = builder.emit(relax.op.add(sums, const(offset.astype(np.int32))))
    return relax.op.multiply(builder.emit(relax.op.astype(sums, "float32")), const(scale.astype(np.float32)))


def _parts(
    builder: relax.BlockBuilder, product: relax.Call
) -> tuple[relax.Expr, Integers, NDArray[np.float32]] | None:
    """Sums, offset and scale of what `_scaled` gave."""
    scale = array_of(bound(builder, product.args[1]))
    cast = call_of(builder, product.args[0], "relax.astype")
    if scale is None or cast is None or str(cast.args[0].ty.dtype) != "int32":
        return None
    added = call_of(builder, cast.args[0], "relax.add")
    offset = None if added is None else array_of(bound(builder, added.args[1]))
    if added is None or offset is None:
        return cast.args[0], np.zeros(scale.shape, np.int64), scale
    return added.args[0], offset.astype(np.int64), scale
