"""Clip as Relax operators, which keep the layout of what they bound; TVM's front end writes loops at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import array_of, dtype_of


def clip(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Clip: a bound that is absent or not a number does not bound."""
    data, low, high = _arguments(inputs, attrs, opset)
    low, high = (_scalar(bound, dtype_of(data)) for bound in (low, high))
    data = data if low is None else bb.emit(relax.op.maximum(data, low))
    return data if high is None else relax.op.minimum(data, high)


def _arguments(inputs: list[Any], attrs: dict[str, Any], opset: int) -> list[Any]:
    if opset >= 11:
        return [inputs[i] if i < len(inputs) else None for i in range(3)]
    return [inputs[0], *(relax.const(attrs[name], "float32") if name in attrs else None for name in ("min", "max"))]


def _scalar(bound: Any, dtype: str) -> Any:
    """A constant bound without dimensions, as layouts want it; None where it does not bound."""
    number = None if bound is None else array_of(bound)
    if number is None:
        return bound
    return None if np.isnan(number).any() else relax.const(number.reshape(-1)[0], dtype)


RULES = {"Clip": clip}
