"""Import the standard domain by its short name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, whole_graph

LONG_NAME = "ai.onnx"


@dataclass(frozen=True)
class DefaultDomain(Pass):
    """Opset import "ai.onnx" -> "", which is the same domain: onnx_ir calls nodes' domains so, but not imports.

    Without it, `remove-unused` would find the import unused. Scope: the model and its functions.
    """

    name: ClassVar[str] = "default-domain"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        imports = [model.graph.opset_imports, *(function.opset_imports for function in model.functions.values())]
        found = [versions for versions in imports if LONG_NAME in versions]
        for versions in found:
            version = versions.pop(LONG_NAME)
            versions.setdefault("", version)
        return Outcome((whole_graph(model),) if found else ())
