"""Operators of any number of inputs that broadcast to each other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering.expressions import like

Rule = Callable[[relax.BlockBuilder, list[Any], dict[str, Any], int], relax.Expr]


def _chain(op: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Rule:
    def rule(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
        return functools.reduce(lambda a, b: bb.normalize(op(a, b)), inputs)

    return rule


def _mean(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    total = RULES["Sum"](bb, inputs, attrs, opset)
    return relax.op.divide(total, like(len(inputs), inputs[0]))


RULES: dict[str, Rule] = {
    "Sum": _chain(relax.op.add),
    "Max": _chain(relax.op.maximum),
    "Min": _chain(relax.op.minimum),
    "Mean": _mean,
}
