"""Clip as one Relax operator, which keeps the layout of what it bounds and takes fewer steps than two comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import array_of, dtype_of

FLOATS = ("float32", "float64", "float16")


def clip(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Clip: of floats with constant bounds as one operator, of others by comparison with each bound."""
    data, low, high = _arguments(inputs, attrs, opset)
    if dtype_of(data) in FLOATS:
        numbers = [array_of(bound) for bound in (low, high)]
        if all(bound is None or number is not None for bound, number in zip((low, high), numbers, strict=True)):
            least, most = (_bound(number, free) for number, free in zip(numbers, (-np.inf, np.inf), strict=True))
            return relax.op.clip(data, least, most)
    data = data if low is None else relax.op.maximum(data, low)
    return data if high is None else relax.op.minimum(data, high)


def _arguments(inputs: list[Any], attrs: dict[str, Any], opset: int) -> list[Any]:
    if opset >= 11:
        return [inputs[i] if i < len(inputs) else None for i in range(3)]
    dtype = dtype_of(inputs[0])
    return [inputs[0], *(relax.const(attrs[name], dtype) if name in attrs else None for name in ("min", "max"))]


def _bound(number: Any, free: float) -> float:
    """A bound as a number; one that is absent or not a number does not bound."""
    return free if number is None or np.isnan(number).any() else float(number.reshape(-1)[0])


RULES = {"Clip": clip}
