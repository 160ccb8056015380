"""Take initializers out of the inputs of models of IR version 3, where every initializer had to be listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, whole_graph

FIRST_WITH_OVERRIDES = 4


@dataclass(frozen=True)
class UnlistInitializers(Pass):
    """IR version 3 knows no default values of inputs: its initializers are constants, whatever the inputs say.

    ONNX Runtime reads them so too (Graph::CanOverrideInitializer). From IR version 4 on, an initializer in the
    inputs is a default that callers may override, and stays. Scope: main graph.
    """

    name: ClassVar[str] = "unlist-initializers"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        if model.ir_version >= FIRST_WITH_OVERRIDES:
            return Outcome()
        inputs = model.graph.inputs
        kept = [value for value in inputs if not value.is_initializer()]
        changed = len(kept) < len(inputs)
        inputs[:] = kept
        model.ir_version = FIRST_WITH_OVERRIDES
        return Outcome((whole_graph(model),) if changed else ())
