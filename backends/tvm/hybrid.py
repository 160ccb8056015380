"""TVM and ONNX Runtime in turns, for models with operators that TVM lacks."""

from __future__ import annotations

from collections.abc import Sequence

from lwc import backends
from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.compiled import refusal
from lwc.backends.tvm.cut import Part, cut
from lwc.backends.tvm.slower import slower
from lwc.compiler.core.backend import Support
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target


class Hybrid(Tvm):
    """The largest regions on TVM that it can take and runs no slower, the rest on ONNX Runtime."""

    name = "hybrid"

    def version(self) -> str:
        return f"hybrid of {super().version()} and {backends.get(backends.REFERENCE).version()}"

    def supports(self, model: Model, target: Target) -> Support:
        """Refused: what ONNX Runtime refuses."""
        return backends.get(backends.REFERENCE).supports(model, target)

    def parts(self, model: Model, target: Target) -> Sequence[Part]:
        """What runs one after the other. model: of fixed shapes"""
        if not refusal(model, target):
            return (Part(model, True),)
        found = cut(model, target, lambda part: refusal(part, target), lambda part: slower(part, target))
        return found.parts
