"""DynamicQuantizeLSTM of com.microsoft: LSTM whose products are of bytes, inputs and states quantized as they come.

Products are computed on the codes as float32, which holds their sums exactly up to 2^24: 500 terms of bytes.
"""

from __future__ import annotations

from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, const, constant_array, like
from lwc.backends.tvm.lowering.recurrent import LSTM, Layer, Multiply, Recur

CODES = 255


def dynamic_quantize_lstm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Weights [directions, inputs, 4 * hidden], codes with a scale and zero point each, or one for each column."""
    x, w, r, b, lengths, hidden, cell, peepholes, *rest = inputs
    w_scale, w_zero, r_scale, r_zero = rest
    layer = Layer(bb, LSTM, attrs, x, lengths, (hidden, cell), w, b)

    def recurrence(way: int) -> Recur:
        multiply = _multiply(bb, r, r_scale, r_zero, way)
        return lambda state, first, last: multiply(state)  # an LSTM wants all gates at once

    return layer.outputs(lambda way: _multiply(bb, w, w_scale, w_zero, way), recurrence, peepholes)


def _multiply(bb: Builder, weights: Any, scale: Any, zero_point: Any, way: int) -> Multiply:
    codes = constant_array(weights, "the weights")[way].astype("float32")
    offset = constant_array(zero_point, "the weights' zero point")[way].astype("float32")
    factor = const(constant_array(scale, "the weights' scale")[way], "float32")
    centred = const(codes - offset, "float32")

    def multiply(x: relax.Expr) -> relax.Expr:
        numbers, size = _quantized(bb, x)
        return relax.op.multiply(relax.op.matmul(numbers, centred), relax.op.multiply(size, factor))

    return multiply


def _quantized(bb: Builder, x: relax.Expr) -> tuple[relax.Expr, relax.Expr]:
    """Codes less their zero point, and their scale: ONNX DynamicQuantizeLinear."""
    x = bb.emit(x)
    zero = like(0.0, x)
    low = bb.emit(relax.op.minimum(relax.op.min(x), zero))
    high = relax.op.maximum(relax.op.max(x), zero)
    size = bb.emit(relax.op.divide(relax.op.subtract(high, low), like(CODES, x)))
    size = bb.emit(relax.op.where(relax.op.equal(size, zero), like(1.0, x), size))
    point = bb.emit(relax.op.clip(relax.op.round(relax.op.divide(relax.op.negative(low), size)), 0, CODES))
    codes = relax.op.clip(relax.op.add(relax.op.round(relax.op.divide(x, size)), point), 0, CODES)
    return bb.emit(relax.op.subtract(codes, point)), size


RULES = {"com.microsoft.DynamicQuantizeLSTM": dynamic_quantize_lstm}
