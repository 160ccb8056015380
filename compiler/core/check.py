"""Refuse what is no valid model, in one sentence each, before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from lwc.compiler.core.external import DataFolder


def check_proto(
    proto: onnx.ModelProto, name: str, weights: Mapping[int, memoryview], folder: DataFolder
) -> None:
    """Raises."""


def foreign_operators(model: ir.Model) -> tuple[tuple[str, str], ...]:
    """Operators of domains that ONNX does not define, as (domain, operator), sorted; functions of the model left out."""
    return ()
