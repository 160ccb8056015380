"""Quantized values in Relax: what a dequantize says of its codes, and how values are bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from lwc.backends.tvm.lowering.expressions import array_of

BYTES = ("uint8", "int8")
QUANTIZATION = ("relax.quantize", "relax.dequantize")


@dataclass(frozen=True)
class Quantized:
    """value = (codes - zero_point) * scale

    codes: of any integer type;  scale, zero_point: scalars, or one for each index of `axis`
    """

    codes: relax.Expr
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.ndim == 0 and self.zero_point.ndim == 0

    def like(self, other: Quantized) -> bool:
        """Whether equal codes mean equal values."""
        return (
            self.per_tensor and other.per_tensor and self.codes.ty.dtype == other.codes.ty.dtype
            and self.scale == other.scale and self.zero_point == other.zero_point
        )  # fmt: skip

    def around(self, codes: relax.Expr, axis: int | None = None) -> relax.Expr:
        """The value of other codes of the same scale, or scales along `axis`."""
        axis = 0 if self.per_tensor else self.axis if axis is None else axis
        zero_point = relax.const(self.zero_point.astype(str(codes.ty.dtype)))
        return relax.op.dequantize(codes, relax.const(self.scale), zero_point, axis)


def bound(builder: relax.BlockBuilder, value: Any) -> Any:
    """What a variable stands for; other values as they are."""
    while isinstance(value, relax.Var):
        found = builder.lookup_binding(value)
        if found is None:
            return value
        value = found
    return value


def call_of(builder: relax.BlockBuilder, value: Any, name: str) -> relax.Call | None:
    """The call of this operator that the value is; None for another value."""
    found = bound(builder, value)
    return found if isinstance(found, relax.Call) and operator(found) == name else None


def operator(call: relax.Call) -> str:
    """The name of a call's operator; empty where it calls something else."""
    return str(getattr(call.op, "name", ""))


def quantized(builder: relax.BlockBuilder, value: Any) -> Quantized | None:
    """The codes behind a float32 value; None where it is no dequantize by constants."""
    call = call_of(builder, value, "relax.dequantize")
    return None if call is None or str(call.ty.dtype) != "float32" else described(builder, call)


def described(builder: relax.BlockBuilder, call: relax.Call) -> Quantized | None:
    """Input and constants of a quantize or dequantize; None where they are no constants."""
    scale, zero_point = (array_of(bound(builder, each)) for each in list(call.args)[1:3])
    if scale is None or zero_point is None or scale.dtype != np.float32 or zero_point.dtype.kind not in "iu":
        return None
    rank = len(call.ty.shape)
    axis = int(call.attrs.axis) % rank if rank else 0
    return Quantized(call.args[0], _scalar(scale), _scalar(zero_point.astype(np.int64)), axis)


def _scalar(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(()) if array.size == 1 else array


def along(array: NDArray[Any], axis: int, rank: int) -> NDArray[Any]:
    """One number for each index of an axis, to be broadcast to a tensor of that rank; scalars as they are."""
    return array if array.ndim == 0 else array.reshape([-1 if k == axis else 1 for k in range(rank)])


def is_quantized(mod: IRModule) -> bool:
    """Whether anything is quantized or dequantized in the module."""
    found: list[relax.Call] = []

    def note(node: relax.Expr) -> None:
        if isinstance(node, relax.Call) and operator(node) in QUANTIZATION:
            found.append(node)

    for func in mod.functions.values():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, note)
    return bool(found)


def mapped(mod: IRModule, rewrite: Callable[[relax.Function], relax.Function]) -> IRModule:
    """The module with every Relax function rewritten, and what is then read no more left out."""
    functions = {
        var: rewrite(func) if isinstance(func, relax.Function) else func for var, func in mod.functions_items()
    }
    result = relax.transform.CanonicalizeBindings()(IRModule(functions, attrs=mod.attrs))
    return relax.transform.DeadCodeElimination()(result)
