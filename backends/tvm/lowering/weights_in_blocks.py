"""Weights in blocks with a scale each: blocked DequantizeLinear and QuantizeLinear, MatMulNBits of com.microsoft."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

from lwc.backends.tvm.lowering.coded import SIGN, Coded
from lwc.backends.tvm.lowering.expressions import (
    Array,
    Builder,
    array_of,
    const,
    constant_array,
    dtype_of,
    shape_of,
)
from lwc.backends.tvm.lowering.quantized import BYTES

FEW = 8  # half of what 4 bits count
INT8 = 4  # the level of accuracy at which MatMulNBits rounds its input to 8 bits


def dequantize(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """DequantizeLinear: relax.dequantize, or where it is blocked (x - zero_point) * scale, both spread over blocks."""
    size = attrs.get("block_size", 0)
    if not size:
        return _get_convert_map()["DequantizeLinear"].get_converter(opset)(bb, inputs, attrs, [{}, {}])
    x, scale, zero_point = [*inputs, None][:3]
    axis = attrs.get("axis", 1) % len(shape_of(x))
    length = shape_of(x)[axis]
    kind = dtype_of(scale)
    coded = _coded(x, scale, zero_point, axis, size)
    if coded is not None:
        return coded.call()
    codes = relax.op.astype(x, kind)
    if zero_point is not None:
        codes = relax.op.subtract(codes, _spread(bb, relax.op.astype(zero_point, kind), axis, size, length))
    return relax.op.multiply(codes, _spread(bb, scale, axis, size, length))


def _coded(x: Any, scale: Any, zero_point: Any, axis: int, size: int) -> Coded | None:
    """A constant matrix of bytes in blocks of rows, with constant scales; None for others."""
    codes, factor, zero = (array_of(each) for each in (x, scale, zero_point))
    if codes is None or factor is None or codes.dtype.name not in BYTES or codes.ndim != 2 or axis != 0:
        return None
    if factor.dtype != np.float32 or (zero is None and zero_point is not None):
        return None
    least = int(codes.min(initial=0))
    offset = np.zeros(factor.shape, np.float32) if zero is None else zero.astype(np.float32)
    most = int(codes.max(initial=0))
    signed = codes.dtype == np.int8
    narrow = least >= -FEW and most < FEW if signed else most < 2 * FEW
    below = 0 if not signed else FEW if narrow else SIGN
    return Coded((codes.astype(np.int16) + below).astype(np.uint8), factor, offset + below, 4 if narrow else 8, size)


def quantize(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """QuantizeLinear: relax.quantize, or where it is blocked the same arithmetic with spread scales."""
    size = attrs.get("block_size", 0)
    if not size:
        return _get_convert_map()["QuantizeLinear"].get_converter(opset)(bb, inputs, attrs, [{}, {}])
    x, scale, zero_point = [*inputs, None][:3]
    axis = attrs.get("axis", 1) % len(shape_of(x))
    length = shape_of(x)[axis]
    kind = "uint8" if zero_point is None else dtype_of(zero_point)
    limits = np.iinfo(kind)
    codes = relax.op.round(relax.op.divide(x, _spread(bb, scale, axis, size, length)))
    if zero_point is not None:
        offset = relax.op.astype(zero_point, dtype_of(x))
        codes = relax.op.add(codes, _spread(bb, offset, axis, size, length))
    return relax.op.astype(relax.op.clip(codes, int(limits.min), int(limits.max)), kind)


def _spread(bb: Builder, value: relax.Expr, axis: int, size: int, length: int) -> relax.Expr:
    """Each element `size` times along the axis, `length` in all."""
    index = np.arange(length) // size
    return bb.emit(relax.op.take(bb.normalize(value), const(index, "int64"), axis=axis))


def matmul_n_bits(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """MatMulNBits: A [.., K] by the transpose of weights [N, K] in blocks along K, packed from the lowest bits on."""
    a, packed, scales, zero_points, groups, bias = [*inputs, None, None, None][:6]
    if groups is not None:
        raise NotImplementedError("its weights are reordered.")
    rows, depth, bits, block = (attrs[name] for name in ("N", "K", "bits", "block_size"))
    blocks = -(-depth // block)
    codes = _unpacked(constant_array(packed, "the weights"), bits, rows, blocks * block)[:, :depth]
    scale = constant_array(scales, "the scales").reshape(rows, blocks).astype(np.float32)
    middle = np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if zero_points is not None:
        given = constant_array(zero_points, "the zero points")
        middle = given.reshape(rows, blocks) if given.dtype.kind == "f" else _unpacked(given, bits, rows, blocks)
    rounded = attrs.get("accuracy_level", 0) == INT8
    coded = Coded(codes.T.copy(), scale.T.copy(), middle.T.astype(np.float32), bits, block, rounded)
    weight = bb.emit(coded.call()) if dtype_of(a) == "float32" else const(coded.numbers(), dtype_of(a))
    product = relax.op.matmul(a, weight)
    return product if bias is None else relax.op.add(product, bias)


def _unpacked(packed: Array, bits: int, rows: int, count: int) -> Array:
    """[rows, count] codes from bytes; each row begins with a byte of its own."""
    stored = packed.reshape(rows, -1).view(np.uint8)
    each = 8 // bits
    parts = [(stored >> (bits * k)) & ((1 << bits) - 1) for k in range(each)]
    found: Array = np.stack(parts, axis=-1).reshape(rows, -1)[:, :count]
    return found


RULES = {
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
    "com.microsoft.MatMulNBits": matmul_n_bits,
}
