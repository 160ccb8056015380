"""Layouts of activations: which ones convolutions want, and what keeps them from spreading through a network."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import IRModule, ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

LAYOUTS = {"relax.nn.conv2d": ["NHWC", "OHWI"]}
ELEMENTWISE = tuple(
    f"relax.{name}"
    for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "greater", "less")
)


@tvm.transform.module_pass(opt_level=0, name="AlignConstants")
class AlignConstants:
    """Constants of elementwise operators get the rank of what they meet: TVM keeps no layout across unlike ranks."""

    def transform_module(self, mod: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """The module with such constants reshaped."""
        align = _Align(mod)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                align.builder_.update_func(var, align.visit_expr(func))
        return align.builder_.get()


@mutator
class _Align(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not isinstance(call.op, tvm.ir.Op) or call.op.name not in ELEMENTWISE:
            return call
        ranks = [_rank(arg) for arg in call.args]
        args = [_of_rank(arg, max(ranks)) if 0 < rank < max(ranks) else arg
                for arg, rank in zip(call.args, ranks, strict=True)]  # fmt: skip
        return relax.Call(call.op, args, call.attrs)


def _rank(value: relax.Expr) -> int:
    return int(getattr(value.ty, "ndim", -1))


def _of_rank(value: relax.Expr, rank: int) -> relax.Expr:
    if not isinstance(value, ir.Constant):
        return value
    array: Any = value.value.numpy()
    return relax.const(array.reshape((1,) * (rank - array.ndim) + array.shape))
