"""Operators that one kernel computes together, beyond what Relax fuses by itself."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.dpl import DFPattern, is_op, wildcard
from tvm.relax.transform import FusionPattern

# Scores of one row of this many columns still lie in a cache beside those of some neighbours.
MOST_COLUMNS = 4096
SCORE_STEPS = 3


def attention_groups() -> tvm.transform.Pass:
    """matmul, scale and mask, softmax, matmul as one function each, where `schedules.attention` takes them."""
    return relax.transform.FuseOpsByPattern([_pattern()], bind_constants=False)


def _pattern() -> FusionPattern:
    scores = is_op("relax.matmul")(wildcard(), wildcard())
    step: DFPattern = scores
    for _ in range(SCORE_STEPS):
        step = (
            is_op("relax.divide")(step, wildcard())
            | is_op("relax.multiply")(step, wildcard())
            | is_op("relax.multiply")(wildcard(), step)
            | is_op("relax.add")(step, wildcard())
            | is_op("relax.add")(wildcard(), step)
            | is_op("relax.where")(wildcard(), step, wildcard())
            | is_op("relax.where")(wildcard(), wildcard(), step)
            | step
        )
    softmax = is_op("relax.nn.softmax")(step)
    whole = is_op("relax.matmul")(softmax, wildcard())
    return FusionPattern("lwc.attention", whole, {"scores": scores, "softmax": softmax}, _fits)


def _fits(context: Any) -> bool:
    """Float products of fixed extents, the softmax along the last axis of scores that no step has made larger."""
    scores, softmax, whole = context.annotated_expr["scores"], context.annotated_expr["softmax"], context.matched_expr
    shapes = [_fixed(expr) for expr in (scores, softmax, *scores.args, whole.args[1], whole)]
    shape = shapes[0]
    if shape is None or len(shape) < 3 or shapes[1] != shape or shape[-1] > MOST_COLUMNS:
        return False
    if any(other is None or len(other) != len(shape) or min(other) == 0 for other in shapes):
        return False
    return int(softmax.attrs.axis) in (-1, len(shape) - 1)


def _fixed(expr: relax.Expr) -> list[int] | None:
    shape = expr.ty.shape
    if expr.ty.dtype is None or str(expr.ty.dtype) != "float32" or shape is None:
        return None
    extents = list(shape)
    return [int(extent) for extent in extents] if all(isinstance(extent, tirx.IntImm) for extent in extents) else None
