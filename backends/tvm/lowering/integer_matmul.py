"""MatMulInteger by constant weights: a product of bytes, and what the zero point of the data adds to each column.

    sum_k (a_k - z) w_ko  =  sum_k a_k w_ko - z sum_k w_ko
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

from lwc.backends.tvm.lowering.expressions import Array, Builder, array_of, const, dtype_of, shape_of
from lwc.backends.tvm.lowering.quantized import BYTES


def matmul_integer(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """MatMulInteger; TVM's own, in 32 bits throughout, where data has more zero points or weights are not symmetric."""
    a, b, zero, b_zero = [*inputs, None, None][:4]
    weight = _symmetric(array_of(b), b_zero)
    if weight is None or dtype_of(a) not in BYTES or (zero is not None and np.prod(shape_of(zero)) != 1):
        return _get_convert_map()["MatMulInteger"].get_converter(opset)(bb, inputs, attrs, [{}, {}])
    sums = bb.emit(relax.op.matmul(a, const(weight), out_dtype="int32"))
    if zero is None:
        return sums
    z = bb.emit(relax.op.astype(bb.emit(relax.op.reshape(zero, [1])), "int32"))
    column = const(weight.sum(axis=0, dtype=np.int32))
    return relax.op.subtract(sums, bb.emit(relax.op.multiply(z, column)))


def _symmetric(weight: Array | None, zero: Any) -> Array | None:
    """The matrix in int8 about zero; None where it is not one."""
    given = array_of(zero)
    if weight is None or weight.ndim != 2 or (zero is not None and given is None):
        return None
    middle = 128 if weight.dtype == np.uint8 else 0
    if not np.all((0 if given is None else given) == middle):
        return None
    return (weight.astype(np.int16) - middle).astype(np.int8)


RULES = {"MatMulInteger": matmul_integer}
