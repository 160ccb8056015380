"""Mark the model for bfloat16 where its runtime takes that as a hint for the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import BFloat16
from lwc.passes.precision.float_hint import mark_for


@dataclass(frozen=True)
class MarkBFloat16(Pass):
    """Applies BFloat16 on targets that execute it by hint; on others it does nothing."""

    name: ClassVar[str] = "mark_bfloat16"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        if not ctx.target.bf16_by_hint:
            return Outcome()
        return mark_for((site for site, _ in ctx.plan.sites(BFloat16)), BFloat16.name, model)
