"""Arithmetic on codes where a model is quantized: products of integers, data moved as bytes.

A quantized graph computes on dequantized values: (codes - zero_point) * scale. Whatever commutes with that is done on
the codes instead, exactly; the rest stays float arithmetic between a dequantize and a quantize, elementwise and fused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tvm import IRModule, relax

from lwc.backends.tvm.lowering.expressions import array_of, const
from lwc.backends.tvm.lowering.integer_products import conv2d, matmul, with_bias
from lwc.backends.tvm.lowering.quantized import along, bound, described, is_quantized, mapped, operator, quantized

Rule = Callable[[relax.BlockBuilder, relax.Call], relax.Expr | None]


def on_codes(mod: IRModule) -> IRModule:
    """The module with QDQ forms computed on codes; quantize and dequantize stay around what is computed as floats."""
    return mapped(mod, lambda func: _OnCodes(mod).visit_expr(func)) if is_quantized(mod) else mod


@relax.expr_functor.mutator
class _OnCodes(relax.PyExprMutator):
    """Applies RULES to calls, arguments first."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        rule = RULES.get(operator(call))
        found = rule(self.builder_, call) if rule else None
        return call if found is None else found


def _bias(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Constants of 32 bits are biases: few, and wanted as numbers."""
    found = described(builder, call)
    codes = None if found is None else array_of(bound(builder, found.codes))
    if found is None or codes is None or codes.dtype != np.int32:
        return None
    scale, zero_point = (along(each, found.axis, codes.ndim) for each in (found.scale, found.zero_point))
    return const((codes - zero_point).astype(np.float32) * scale)


def _cancelled(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """quantize(dequantize(codes)) = codes where both have the same scale."""
    target, source = described(builder, call), quantized(builder, call.args[0])
    if target is None or source is None or str(call.ty.dtype) != str(source.codes.ty.dtype):
        return None
    same = source.per_tensor and target.per_tensor
    return source.codes if same and (source.scale, source.zero_point) == (target.scale, target.zero_point) else None


def _moved(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """What picks, repeats or reorders elements does so with codes of one scale."""
    array = array_of(bound(builder, call.args[0]))
    if array is not None and operator(call) == "relax.reshape":
        return const(array.reshape([int(size) for size in call.ty.shape]))
    source = quantized(builder, call.args[0])
    if source is None or not source.per_tensor or not len(call.ty.shape):
        return None
    moved = relax.Call(call.op, [source.codes, *list(call.args)[1:]], call.attrs)
    return source.around(builder.emit(moved))


def _transposed(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """As _moved, and with one scale for each index of an axis, which goes along; constants are transposed here."""
    source = quantized(builder, call.args[0])
    if source is None:
        return None
    rank = len(call.ty.shape)
    axes = [int(axis) % rank for axis in call.attrs.axes or reversed(range(rank))]
    codes = array_of(bound(builder, source.codes))
    moved = relax.op.permute_dims(source.codes, axes) if codes is None else const(codes.transpose(axes))
    return source.around(builder.emit(moved), axes.index(source.axis))


def _concatenated(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
    """Codes of one scale side by side."""
    fields = bound(builder, call.args[0])
    sources = [quantized(builder, field) for field in getattr(fields, "fields", [])]
    first = sources[0] if sources else None
    if first is None or not all(each is not None and first.like(each) for each in sources):
        return None
    joined = relax.op.concat([each.codes for each in sources if each is not None], call.attrs.axis)
    return first.around(builder.emit(joined))


RULES: Mapping[str, Rule] = {
    "relax.dequantize": _bias,
    "relax.quantize": _cancelled,
    "relax.reshape": _moved,
    "relax.squeeze": _moved,
    "relax.expand_dims": _moved,
    "relax.strided_slice": _moved,
    "relax.take": _moved,
    "relax.nn.max_pool2d": _moved,
    "relax.permute_dims": _transposed,
    "relax.concat": _concatenated,
    "relax.nn.conv2d": conv2d,
    "relax.matmul": matmul,
    "relax.add": with_bias,
}
