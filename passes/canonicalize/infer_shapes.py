"""Annotate values with types and shapes, for the passes that need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext


@dataclass(frozen=True)
class InferShapes(Pass):
    """Computes nothing new: annotations are no part of the digest, so nothing is reported as changed."""

    name: ClassVar[str] = "infer-shapes"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        infer_shapes(model)
        return Outcome()
