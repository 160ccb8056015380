"""What rules ask of Relax expressions: constants as arrays, static shapes, types; and how they write constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst

Array = NDArray[Any]
Builder: TypeAlias = relax.BlockBuilder
Value = Any  # a relax expression, or what TVM's front end has for an optional without a value


def array_of(value: Value | None) -> Array | None:
    """The numbers of a constant; None for every other value."""
    if isinstance(value, GenericConst) and hasattr(value.value, "numpy"):
        found: Array = value.value.numpy()
        return found
    return None


def constant_array(value: Value | None, what: str) -> Array:
    """The numbers of a constant. Raises NotImplementedError, naming `what`, for every other value."""
    found = array_of(value)
    if found is None:
        raise NotImplementedError(f"{what} must be constant.")
    return found


def ints_of(value: Value | None, what: str) -> list[int]:
    """A constant as integers, flat. Raises NotImplementedError where it is none."""
    return [int(item) for item in constant_array(value, what).reshape(-1)]


def dims_of(value: Value) -> list[Any]:
    """Sizes and symbolic expressions. Raises NotImplementedError where the rank is unknown."""
    shape = getattr(value.ty, "shape", None)
    if not isinstance(shape, relax.ShapeExpr):
        raise NotImplementedError("its shape depends on data.")
    return [int(dim) if isinstance(dim, (int, tirx.IntImm)) else dim for dim in shape.values]


def shape_of(value: Value) -> list[int]:
    """The static shape. Raises NotImplementedError where a dimension is symbolic."""
    dims = dims_of(value)
    if not all(isinstance(dim, int) for dim in dims):
        raise NotImplementedError(f"its dimensions {dims} must be fixed.")
    return dims


def is_static(value: Value) -> bool:
    """Whether all dimensions are known numbers."""
    shape = getattr(value.ty, "shape", None)
    return isinstance(shape, relax.ShapeExpr) and all(isinstance(dim, (int, tirx.IntImm)) for dim in shape.values)


def dtype_of(value: Value) -> str:
    """The element type as TVM writes it."""
    return str(value.ty.dtype.dtype if hasattr(value.ty.dtype, "dtype") else value.ty.dtype)


def const(value: Any, dtype: str | None = None) -> relax.Expr:
    """A constant tensor of the value's shape."""
    array = np.asarray(value, dtype) if dtype else np.asarray(value)
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape)))


def like(number: float, value: Value) -> relax.Expr:
    """A scalar of the value's type."""
    return relax.const(number, dtype_of(value))


def shape_constant(value: relax.Expr) -> relax.Expr:
    """A shape as a tensor of int64: a constant where it is static."""
    values = value.values if isinstance(value, relax.ShapeExpr) else value.ty.values
    if values is not None and all(isinstance(dim, (int, tirx.IntImm)) for dim in values):
        return const([int(dim) for dim in values], "int64")
    return relax.op.shape_to_tensor(value)


def stacked(values: Sequence[relax.Expr], axis: int) -> relax.Expr:
    """The values along a new axis. TVM 0.27's ConvertLayout fails on relax.op.stack: here it is a concatenation."""
    return relax.op.concat([relax.op.expand_dims(value, axis) for value in values], axis)


def text_of(attrs: dict[str, Any], name: str, default: str) -> str:
    """A string attribute."""
    found = attrs.get(name, default)
    return found.decode() if isinstance(found, bytes) else str(found)
