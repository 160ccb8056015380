"""Constants computed before anything is compiled, by NumPy.

TVM's own FoldConstant compiles a function for each operator and shape: 7 of the 10 seconds that a network of fifty
convolutions took to lower. What is left for it are operators that are not in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import IRModule, ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from lwc.compiler.core.backend import Array

LARGEST = 1 << 24  # elements; larger results of small constants are made when they are needed

_UNARY: Mapping[str, Callable[[Any], Any]] = {
    "abs": np.abs, "exp": np.exp, "log": np.log, "negative": np.negative, "sqrt": np.sqrt, "tanh": np.tanh,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
_SHAPED = ("expand_dims", "permute_dims", "reshape", "squeeze")


@tvm.transform.module_pass(opt_level=0, name="FoldWithNumPy")
class FoldWithNumPy:
    """Elementwise operators, and those that only move values, of constants."""

    def transform_module(self, mod: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """The module with what they give in their place."""
        fold = _Fold(mod)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                fold.builder_.update_func(var, fold.visit_expr(func))
        return fold.builder_.get()


@mutator
class _Fold(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not isinstance(call.op, ir.Op) or not call.op.name.startswith("relax."):
            return call
        arrays = [self._array(arg) for arg in call.args]
        if arrays and arrays[0] is not None:
            found = folded(call.op.name.removeprefix("relax."), arrays, call)
            if found is not None:
                return relax.const(np.ascontiguousarray(found).reshape(found.shape), str(found.dtype))
        return call

    def _array(self, value: relax.Expr) -> Array | None:
        if isinstance(value, relax.Var):
            value = self.lookup_binding(value)
        return value.value.numpy() if isinstance(value, ir.GenericConst) and hasattr(value.value, "numpy") else None


def folded(op: str, arrays: list[Array | None], call: relax.Call) -> Array | None:
    """What the operator gives for constants; None where that is left to others. arrays: one for each argument"""
    kind = call.ty
    if not isinstance(kind, relax.TensorType) or not isinstance(kind.shape, relax.ShapeExpr):
        return None
    first = arrays[0]
    assert first is not None
    shape = [int(size) for size in kind.shape] if all(isinstance(s, tvm.tirx.IntImm) for s in kind.shape) else None
    if shape is None or np.prod(shape, dtype=np.int64) > LARGEST:
        return None
    if op == "permute_dims":
        axes = call.attrs.axes
        return first.transpose(None if axes is None else [int(axis) for axis in axes])
    if op in _SHAPED:
        return first.reshape(shape)
    if first.dtype != np.float32:
        return None
    if op in _UNARY:
        return np.asarray(_UNARY[op](first), np.float32)
    if op in _BINARY and arrays[1] is not None:
        return np.asarray(_BINARY[op](first, arrays[1]), np.float32)
    return None
