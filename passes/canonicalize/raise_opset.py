"""Raise the opset where a later pass or a runtime needs a newer one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.opset import ensure_opset
from lwc.compiler.core.pass_ import ForeignPass, PassContext


@dataclass(frozen=True)
class RaiseOpset(ForeignPass):
    """Convert main graph, subgraphs and functions to at least opset `minimum`; newer models stay as they are.

    Raises UnsupportedOpset where a node has no equal at that opset.
    """

    name: ClassVar[str] = "raise-opset"

    minimum: int = 13

    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        ensure_opset(model, self.minimum)
