"""DynamicQuantizeLSTM of com.microsoft: LSTM whose products are of bytes, inputs and states quantized as they come.

Products are computed on the codes as float32, which holds their sums exactly up to 2^24: 500 terms of bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, const, constant_array, like
from lwc.backends.tvm.lowering.recurrent import Codes, recurrent

CODES = 255


def dynamic_quantize_lstm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Weights [directions, inputs, 4 * hidden], codes with a scale and zero point each, or one for each column."""
    x, w, r, *others, w_scale, w_zero, r_scale, r_zero = inputs

    def multiply(x: relax.Expr, codes: relax.Expr, factors: relax.Expr) -> relax.Expr:
        numbers, size = _quantized(bb, x)
        # One factor after the other, each of which joins the product's kernel; their product would not.
        return relax.op.multiply(relax.op.multiply(relax.op.matmul(numbers, codes), size), factors)

    (w_codes, w_factors), (r_codes, r_factors) = _centred(w, w_scale, w_zero), _centred(r, r_scale, r_zero)
    codes = Codes(w_factors, r_factors, multiply)
    return recurrent(bb, "LSTM", attrs, [x, w_codes, r_codes, *others], codes)


def _centred(weights: Any, scale: Any, zero_point: Any) -> tuple[relax.Expr, relax.Expr]:
    """Codes less their zero point, [directions, 4 * hidden, inputs], and the scale of each column."""
    codes = constant_array(weights, "the weights").astype(np.float32)
    ways, _, columns = codes.shape
    offset, factor = (
        np.broadcast_to(constant_array(value, what).astype(np.float32).reshape(ways, -1), (ways, columns))
        for value, what in ((zero_point, "the weights' zero point"), (scale, "the weights' scale"))
    )
    return const((codes - offset[:, None]).transpose(0, 2, 1)), const(factor)


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
