"""Cast and CastLike; those from and to 8-bit floats by tables, as LLVM's conversions round and saturate otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax, te
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

from lwc.backends.tvm.lowering.expressions import Array, Builder, const, dtype_of

SIGN = 128


def cast(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Cast; to 8-bit floats it rounds to the nearest, ties to even, and saturates as asked."""
    (x,) = inputs
    to = str(onnx.helper.tensor_dtype_to_np_dtype(attrs["to"]))
    kind = dtype_of(x)
    if kind == to:
        return x
    if kind.startswith("float8"):
        x = _decoded(bb, x)
    if to.startswith("float8"):
        return _encoded(bb, x, to, saturate=bool(attrs.get("saturate", 1)))
    found = _get_convert_map()["Cast"].get_converter(opset)(bb, [x], {"to": attrs["to"]}, [{}, {}])
    return found if dtype_of(bb.normalize(found)) == to else relax.op.astype(found, to)


def cast_like(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """CastLike: Cast to the type of the second input."""
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype_of(inputs[1])))
    return cast(bb, [inputs[0]], {**attrs, "to": to}, opset)


def reinterpreted(bb: Builder, x: relax.Expr, to: str) -> relax.Expr:
    """The same bits as another type of that width."""

    def compute(data: te.Tensor) -> te.Tensor:
        return te.compute(data.shape, lambda *i: tvm.tirx.reinterpret(to, data(*i)), name="bits")

    return bb.emit(bb.call_te(compute, bb.normalize(x), primfunc_name_hint="bits"))


def _decoded(bb: Builder, x: relax.Expr) -> relax.Expr:
    """8-bit floats as float32."""
    codes = relax.op.astype(reinterpreted(bb, x, "uint8"), "int32")
    return bb.emit(relax.op.take(const(_values(dtype_of(x)), "float32"), codes))


def _values(kind: str) -> Array:
    """What each of the 256 codes means."""
    found: Array = np.arange(256, dtype=np.uint8).view(np.dtype(kind)).astype(np.float32)
    return found


def _encoded(bb: Builder, x: relax.Expr, to: str, *, saturate: bool) -> relax.Expr:
    values = _values(to)
    finite = values[:SIGN][np.isfinite(values[:SIGN])]
    largest = len(finite) - 1
    wide = bb.emit(relax.op.astype(x, "float32"))
    size = bb.emit(relax.op.abs(wide))
    code = relax.op.bucketize(size, const(_thresholds(finite), "float32"), out_int32=True, right=True)
    step = float(finite[-1]) - float(finite[-2])
    beyond = relax.op.greater if largest % 2 == 0 else relax.op.greater_equal
    over = beyond(size, relax.const(float(finite[-1]) + step / 2, "float32"))
    code = relax.op.where(over, relax.const(largest if saturate else _overflow(values), "int32"), code)
    negative = relax.op.less(reinterpreted(bb, wide, "int32"), relax.const(0, "int32"))
    signed = relax.op.add(code, relax.const(SIGN, "int32"))
    if to.endswith("fnuz"):  # neither zero, code 0, nor NaN, code SIGN, has a sign
        magnitude = relax.op.bitwise_and(code, relax.const(SIGN - 1, "int32"))
        negative = relax.op.logical_and(negative, relax.op.greater(magnitude, relax.const(0, "int32")))
    code = relax.op.where(negative, signed, code)
    code = relax.op.where(relax.op.isnan(wide), relax.const(_nan(values), "int32"), code)
    return reinterpreted(bb, relax.op.astype(code, "uint8"), to)


def _thresholds(finite: Array) -> Array:
    """From where on a number rounds to the next code; from the middle itself where that code is even."""
    middles = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    odd = np.arange(1, len(finite)) % 2 == 1
    return np.where(odd, np.nextafter(middles, np.float32(np.inf)), middles)


def _overflow(values: Array) -> int:
    infinite = np.flatnonzero(np.isposinf(values))
    return int(infinite[0]) if infinite.size else _nan(values)


def _nan(values: Array) -> int:
    return int(np.flatnonzero(np.isnan(values))[0])


RULES = {"Cast": cast, "CastLike": cast_like}
