"""Rules that bring ONNX operators into Relax, by operator: TVM's front end is asked for the others.

A rule takes the block builder, the inputs (None where absent), the attributes and the opset, and returns the
outputs: an expression, or a relax.Tuple of them. It raises NotImplementedError with the reason where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import relax

Rule = Callable[[relax.BlockBuilder, list[Any], dict[str, Any], int], relax.Expr]

RULES: Mapping[str, Rule] = {}
