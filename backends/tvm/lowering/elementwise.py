"""Elementwise operators that TVM's front end gets wrong or lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map, onnx_input

from lwc.backends.tvm.lowering.casts import reinterpreted
from lwc.backends.tvm.lowering.expressions import (
    Builder,
    array_of,
    const,
    constant_array,
    dims_of,
    dtype_of,
    ints_of,
    like,
    shape_of,
)


def power(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Pow: the base's type is the result's; integers are raised as float64."""
    base, exponent = inputs
    kind = dtype_of(base)
    wide = kind if kind.startswith("float") else "float64"
    raised = _small_power(base, exponent, wide)
    return relax.op.astype(raised, kind) if wide != kind else raised


def _small_power(base: relax.Expr, exponent: relax.Expr, wide: str) -> relax.Expr:
    known = array_of(exponent)
    base = relax.op.astype(base, wide) if dtype_of(base) != wide else base
    if known is not None and known.ndim == 0 and float(known) == 2.0:
        return relax.op.multiply(base, base)
    if known is not None and known.ndim == 0 and float(known) == 0.5:
        return relax.op.sqrt(base)
    return relax.op.power(base, relax.op.astype(exponent, wide) if dtype_of(exponent) != wide else exponent)


def is_infinite(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """IsInf: of the signs that are asked for."""
    x = inputs[0]
    infinity = like(float("inf"), x)
    positive, negative = relax.op.equal(x, infinity), relax.op.equal(x, like(float("-inf"), x))
    signs = ((positive, "detect_positive"), (negative, "detect_negative"))
    wanted = [sign for sign, name in signs if attrs.get(name, 1)]
    if not wanted:
        return relax.op.zeros(shape_of(x), "bool")
    return wanted[0] if len(wanted) == 1 else relax.op.logical_or(*wanted)


def bit_cast(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """BitCast between types of one width."""
    to = str(onnx.helper.tensor_dtype_to_np_dtype(attrs["to"]))
    if "bool" in (to, dtype_of(inputs[0])):
        raise NotImplementedError("bits of booleans.")

    return reinterpreted(bb, inputs[0], to)


def cumulative_product(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """CumProd: from the other end where it is reversed."""
    (axis,) = ints_of(inputs[1], "the axis")
    axis %= len(shape_of(inputs[0]))
    x = relax.op.flip(inputs[0], axis) if attrs.get("reverse", 0) else inputs[0]
    found = relax.op.cumprod(x, axis, exclusive=bool(attrs.get("exclusive", 0)))
    return relax.op.flip(found, axis) if attrs.get("reverse", 0) else found


def dropout(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Dropout: nothing is dropped when a model is used."""
    x, ratio, training = [*inputs, None, None][:3]
    trains = training is not None and constant_array(training, "training_mode").any()
    if trains and (ratio is None or constant_array(ratio, "the ratio").any()):
        raise NotImplementedError("it is in training mode.")
    return relax.Tuple([x, relax.op.full(shape_of(x), relax.const(True, "bool"), "bool")])


def eye_like(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """EyeLike: a constant of the input's shape."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(attrs["dtype"]) if "dtype" in attrs else np.dtype(dtype_of(inputs[0]))
    rows, columns = shape_of(inputs[0])
    return const(np.eye(rows, columns, attrs.get("k", 0), dtype=kind))


def softplus(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Softplus without overflow: max(x, 0) + log(1 + exp(-|x|))."""
    (x,) = inputs
    small = bb.emit(relax.op.exp(relax.op.negative(relax.op.abs(x))))
    return relax.op.add(relax.op.maximum(x, like(0, x)), _log_of_one_and(bb, small))


def _log_of_one_and(bb: Builder, x: relax.Expr) -> relax.Expr:
    """log(1 + x) to the last bits for small x: the rounding of 1 + x cancels (Goldberg 1991, theorem 4)."""
    one = like(1, x)
    total = bb.emit(relax.op.add(one, x))
    rest = bb.emit(relax.op.subtract(total, one))
    lost = relax.op.equal(rest, like(0, x))
    ratio = relax.op.divide(relax.op.log(total), relax.op.where(lost, one, rest))
    return relax.op.where(lost, x, relax.op.multiply(x, ratio))


def mish(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Mish: x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); above 20 the factor is 1."""
    (x,) = inputs
    grown = bb.emit(relax.op.exp(relax.op.minimum(x, like(20, x))))
    n = bb.emit(relax.op.multiply(grown, relax.op.add(grown, like(2, x))))
    return relax.op.multiply(x, relax.op.divide(n, relax.op.add(n, like(2, x))))


def divide(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Div: integers towards zero."""
    return relax.op.divide(inputs[0], _never_zero(bb, inputs[1]))


def modulo(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Mod: with the divisor's sign, or the dividend's where fmod is set."""
    op = relax.op.mod if attrs.get("fmod", 0) else relax.op.floor_mod
    return op(inputs[0], _never_zero(bb, inputs[1]))


def _never_zero(bb: Builder, divisor: relax.Expr) -> relax.Expr:
    """A processor traps on an integer division by zero, which vectors meet behind the end of a tensor."""
    known = array_of(divisor)
    if "int" not in dtype_of(divisor) or (known is not None and known.all()):
        return divisor
    zero = relax.op.equal(divisor, like(0, divisor))
    return bb.emit(relax.op.where(zero, like(1, divisor), divisor))


def hyperbolic_cosine(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Cosh: (e^x + e^-x) / 2."""
    (x,) = inputs
    both = relax.op.add(relax.op.exp(x), relax.op.exp(relax.op.negative(x)))
    return relax.op.multiply(both, like(0.5, x))


def hyperbolic_sine(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Sinh: (e^x - e^-x) / 2; near zero, where that cancels, 2 t / (1 - t^2) with t = tanh(x / 2)."""
    (x,) = inputs
    apart = relax.op.subtract(relax.op.exp(x), relax.op.exp(relax.op.negative(x)))
    t = bb.emit(relax.op.tanh(relax.op.multiply(x, like(0.5, x))))
    near = relax.op.divide(relax.op.add(t, t), relax.op.subtract(like(1.0, x), relax.op.multiply(t, t)))
    return relax.op.where(relax.op.less(relax.op.abs(x), like(1.0, x)), near, relax.op.multiply(apart, like(0.5, x)))


def squeeze(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Squeeze: of axes counted from the front, as TVM 0.27's ConvertLayout fails on others."""
    x, axes = [*inputs, None][:2]
    if axes is None:
        return relax.op.squeeze(x)
    rank = len(dims_of(x))
    return relax.op.squeeze(x, sorted({axis % rank for axis in ints_of(axes, "the axes")}))


def tile(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Tile: a new axis before each that is repeated, broadcast and merged."""
    x, repeats = inputs[0], ints_of(inputs[1], "the repeats")
    dims = shape_of(x)
    apart = [size for dim in dims for size in (1, dim)]
    spread = [size for count, dim in zip(repeats, dims, strict=True) for size in (count, dim)]
    found = relax.op.broadcast_to(relax.op.reshape(x, apart), spread)
    return relax.op.reshape(found, [count * dim for count, dim in zip(repeats, dims, strict=True)])


def matmul(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """MatMul: 16-bit floats are summed as float32."""
    a, b = inputs
    kind = dtype_of(a)
    if kind not in ("float16", "bfloat16"):
        return relax.op.matmul(a, b)
    return relax.op.astype(relax.op.matmul(a, b, out_dtype="float32"), kind)


def convolution(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Conv: 16-bit floats are summed as float32."""
    kind = dtype_of(inputs[0])
    if kind not in ("float16", "bfloat16"):
        return _get_convert_map()["Conv"].get_converter(opset)(bb, onnx_input(inputs), attrs, [{}, {}])
    wide = [value if value is None else bb.emit(relax.op.astype(value, "float32")) for value in inputs]
    return relax.op.astype(_get_convert_map()["Conv"].get_converter(opset)(bb, onnx_input(wide), attrs, [{}, {}]), kind)


def softmax(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Softmax over one axis (opset 13); 16-bit floats are summed as float32."""
    (x,) = inputs
    kind, axis = dtype_of(x), attrs.get("axis", -1)
    if kind not in ("float16", "bfloat16"):
        return relax.op.nn.softmax(x, axis)
    return relax.op.astype(relax.op.nn.softmax(relax.op.astype(x, "float32"), axis), kind)


RULES = {
    "BitCast": bit_cast,
    "Conv": convolution,
    "Cosh": hyperbolic_cosine,
    "CumProd": cumulative_product,
    "Div": divide,
    "Dropout": dropout,
    "EyeLike": eye_like,
    "IsInf": is_infinite,
    "MatMul": matmul,
    "Mish": mish,
    "Mod": modulo,
    "Pow": power,
    "Sinh": hyperbolic_sine,
    "Softmax": softmax,
    "Softplus": softplus,
    "Squeeze": squeeze,
    "Tile": tile,
}
