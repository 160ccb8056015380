"""Mark the model for float16 where its runtime takes that as a hint for the whole model.

Not for models with quantized activations: OpenVINO 2026.4 fails on some of them with float16 ("unexpected
precisions" in its low precision transformations) and runs the others slower than in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Float16, StaticInt8
from lwc.passes.precision.float_hint import mark_for


@dataclass(frozen=True)
class MarkFloat16(Pass):
    """Applies Float16 on targets that execute it by hint; on others it does nothing."""

    name: ClassVar[str] = "mark_float16"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        sites = [site for site, _ in ctx.plan.sites(Float16)]
        if not sites or not ctx.target.fp16_by_hint:
            return Outcome()
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.all_nodes())
        if quantized or any(ctx.plan.sites(StaticInt8)):
            return Outcome(skipped=tuple(Skip(site, "fp16 by hint does not go with static int8") for site in sites))
        return mark_for(sites, Float16.name, model)
