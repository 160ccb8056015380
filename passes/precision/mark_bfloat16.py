"""Mark the model for bfloat16 where the runtime takes that as a hint for all of its float layers (OpenVINO).

One site with the choice is enough: the hint cannot be given for a part. The graph stays as it is, so the outcome
names no change; the mark is in the model's metadata (core/float_format.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.float_format import mark_float_format
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import BFloat16


@dataclass(frozen=True)
class MarkBFloat16(Pass):
    """Applies BFloat16 on targets that execute it by hint; on others it does nothing."""

    name: ClassVar[str] = "mark_bfloat16"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        if not ctx.target.bf16_by_hint:
            return Outcome()
        nodes = {node.name for node in model.graph}
        sites = [site for site, _ in ctx.plan.sites(BFloat16)]
        absent = [site for site in sites if site.name not in nodes]
        if len(absent) < len(sites):
            mark_float_format(model, BFloat16.name)
        return Outcome(skipped=tuple(Skip(site, "the main graph has no node of this name") for site in absent))
