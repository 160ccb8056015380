"""Rules of onnxscript's rewriter that are sound and that lwc has no pass of its own for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnxscript.rewriter import RewritePass, RewriteRule
from onnxscript.rewriter.rules.common import (
    cast_constant_of_shape_rule,
    cast_constant_of_shape_without_value_rule,
    no_op_dynamic_scatter_nd_rule,
)

from lwc.compiler.core.pass_ import ForeignPass, Outcome, PassContext

# A rule, and the operators that must be there for it to match.
RULES: tuple[tuple[frozenset[str], RewriteRule], ...] = (
    (frozenset({"ConstantOfShape", "Cast"}), cast_constant_of_shape_rule),
    (frozenset({"ConstantOfShape", "Cast"}), cast_constant_of_shape_without_value_rule),
    (frozenset({"ScatterND", "Range"}), no_op_dynamic_scatter_nd_rule),
)


@dataclass(frozen=True)
class ApplyOnnxscript(ForeignPass):
    """Cast(ConstantOfShape(s, v)) -> ConstantOfShape(s, cast v);  x[:, ...] = y by ScatterND -> y.

    Of the rules in onnxscript 0.7.2 others are left out where they are wrong in a corner: Clip(Clip(x)) with disjoint
    limits, Gemm with a bias that does not broadcast, Split before opset 18, two initializers of one name, a TypeError
    on symbolic dimensions; `remove-no-ops`, `merge-clips`, `merge-matmul-add`, `fold-pad`, `fold-affine` and
    `merge-layer-norm` do their work. Constants that callers can override are hidden from the rules, which take them
    for constants. Scope: main graph, subgraphs and functions.
    """

    name: ClassVar[str] = "apply-onnxscript"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        return super().run(model, ctx) if _matching(model) else Outcome()

    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        with _hidden_defaults(model):
            RewritePass(_matching(model))(model)


def _matching(model: ir.Model) -> list[RewriteRule]:
    """The rules that may match, because all their operators are there."""
    present = {node.op_type for node in model.graph.all_nodes()}
    return [rule for needed, rule in RULES if needed <= present]


@contextmanager
def _hidden_defaults(model: ir.Model) -> Iterator[None]:
    hidden = {value: value.const_value for value in model.graph.inputs if value.const_value is not None}
    for value in hidden:
        value.const_value = None
    try:
        yield
    finally:
        for value, tensor in hidden.items():
            value.const_value = tensor
