"""quantize and dequantize as elementwise arithmetic that fuses with what is around it.

    quantize(v) = min(max(round(v / s) + z, least), most),  round: half to even
    dequantize(q) = (q - z) s

Where v is made of products by constants, 1 / s goes into these constants: v / s then costs nothing.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from lwc.backends.tvm.lowering.expressions import array_of, const
from lwc.backends.tvm.lowering.quantized import (
    QUANTIZATION,
    Quantized,
    along,
    described,
    is_quantized,
    mapped,
    operator,
)

Floats = NDArray[np.float32]
ONE = np.ones((), np.float32)
# Operators that a positive factor goes through.
LINEAR = ("relax.add", "relax.nn.relu", "relax.nn.avg_pool2d", "relax.mean")
STORED = ("uint8", "int8", "uint16", "int16")


def quantization_arithmetic(mod: IRModule) -> IRModule:
    """The module without quantize and dequantize by constants between float32 and integers."""
    if not is_quantized(mod):
        return mod
    return mapped(mod, lambda func: _Arithmetic(func).visit_expr(func))


@relax.expr_functor.mutator
class _Arithmetic(relax.PyExprMutator):
    """bindings: what each variable of the function stands for;  uses: how often it is read"""

    def __init__(self, func: relax.Function) -> None:
        super().__init__()
        self.bindings: dict[relax.Var, relax.Expr] = {}
        self.uses: Counter[relax.Var] = Counter()
        relax.analysis.post_order_visit(func, self._note)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        found = described(self.builder_, call) if operator(call) in QUANTIZATION else None
        if found is None:
            return self.visit_expr_post_order(call)
        given, made = str(call.args[0].ty.dtype), str(call.ty.dtype)
        if operator(call) == "relax.dequantize" and made == "float32":
            return self._dequantized(call, found)
        if given == "float32" and made in STORED:
            return self._quantized(call, found)
        return self.visit_expr_post_order(call)

    def _note(self, node: relax.Expr) -> None:
        if isinstance(node, relax.SeqExpr):
            bindings = [binding for block in node.blocks for binding in block.bindings]
            self.bindings.update({each.var: each.value for each in bindings if isinstance(each, relax.VarBinding)})
            read = [node.body]
        elif isinstance(node, relax.Call):
            read = list(node.args)
        else:
            read = list(getattr(node, "fields", []))
        self.uses.update(each for each in read if isinstance(each, relax.Var))

    def _dequantized(self, call: relax.Call, found: Quantized, factor: Floats = ONE) -> relax.Expr:
        rank = len(call.ty.shape)
        scale, zero_point = (along(each, found.axis, rank) for each in (found.scale, found.zero_point))
        value = self.builder_.emit(relax.op.astype(self.visit_expr(found.codes), "float32"))
        if zero_point.any():
            value = self.builder_.emit(relax.op.subtract(value, const(zero_point.astype(np.float32))))
        return relax.op.multiply(value, const(scale * factor))

    def _quantized(self, call: relax.Call, found: Quantized) -> relax.Expr:
        rank, kind = len(call.ty.shape), np.iinfo(str(call.ty.dtype))
        scale, zero_point = (along(each, found.axis, rank) for each in (found.scale, found.zero_point))
        value = found.codes
        if (zero_point == kind.min).all() and self._is(value, "relax.nn.relu"):
            value = self.bindings[value].args[0]  # what relu cuts off, the least code does
        scaled = self._over(value, ONE / scale) if np.all(ONE / scale < np.inf) else None
        if scaled is None:
            scaled = relax.op.divide(self.visit_expr(value), const(scale))
        for step in (
            relax.op.round,
            lambda x: relax.op.add(x, const(zero_point.astype(np.float32))) if zero_point.any() else x,
            lambda x: relax.op.maximum(x, relax.const(float(kind.min), "float32")),
            lambda x: relax.op.minimum(x, relax.const(float(kind.max), "float32")),
        ):
            scaled = self.builder_.emit(step(scaled))
        return relax.op.astype(scaled, str(call.ty.dtype))

    def _over(self, value: relax.Expr, factor: Floats) -> relax.Expr | None:
        """value * factor with the factor inside constants; None where it does not reach one on every way."""
        array = array_of(value)
        if array is not None:
            return const(array * factor)
        call = self.bindings.get(value)
        if not isinstance(call, relax.Call) or str(call.ty.dtype) != "float32":
            return None
        name = operator(call)
        if name == "relax.dequantize":
            found = described(self.builder_, call)
            return None if found is None else self._dequantized(call, found, factor)
        if name == "relax.multiply":
            scale = array_of(call.args[1])
            return None if scale is None else relax.op.multiply(self.visit_expr(call.args[0]), const(scale * factor))
        if name not in LINEAR or self.uses[value] != 1:
            return None
        parts = [self._over(each, factor) for each in call.args]
        return None if None in parts else relax.Call(call.op, [self.builder_.emit(each) for each in parts], call.attrs)

    def _is(self, value: relax.Expr, name: str) -> bool:
        call = self.bindings.get(value)
        return isinstance(call, relax.Call) and operator(call) == name
