"""Numbers that a shorter float format cannot hold: too large, or so small that nothing is left of them.

    fp16    6e-8 .. 65504        bf16    9e-41 .. 3.39e38

Statistics tell what values have been; constants are looked at themselves. A constant that loses everything (the
epsilon under a square root) turns a sum into a division by zero, so it keeps its node in float as well.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from lwc.compiler.core.stats import LayerStats, TensorStats
from lwc.passes.edit import constant
from lwc.passes.precision.float_types import Conversion

_SCALES = {"QuantizeLinear": 1, "DequantizeLinear": 1}  # inputs of which every single number must be left


@dataclass(frozen=True)
class Limits:
    """largest, smallest: magnitudes of the format's numbers;  beyond: from here on numbers round to infinity"""

    largest: float
    smallest: float
    beyond: float

    @staticmethod
    def of(dtype: ir.DataType) -> Limits:
        info = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
        largest = float(info.max)
        half_step = 2.0 ** (math.frexp(largest)[1] - info.nmant - 2)
        return Limits(largest, float(info.smallest_subnormal), largest + half_step)


@dataclass(frozen=True)
class Extent:
    """Of a tensor's finite numbers other than zero: their largest and smallest magnitude; 0 when there are none."""

    largest: float
    smallest: float


def reason_against(
    node: ir.Node, found: Conversion, stats: LayerStats | None, headroom: float, memo: MutableMapping[Any, Any]
) -> str:
    """Why the node's numbers do not fit the format; empty when they do.

    stats: of the node, where known;  headroom: activations may grow by this factor over what was seen
    memo: PassContext.solved
    """
    limits = Limits.of(found.dtype)
    for k in found.inputs:
        value = node.inputs[k]
        tensor = constant(value)
        if tensor is not None:
            extent = extent_of(tensor, memo)
            if extent.largest >= limits.beyond:
                return f"its constant '{_name(value)}' reaches {extent.largest:.3g}, beyond {_named(found)}"
            least = extent.smallest if _SCALES.get(node.op_type) == k else extent.largest
            if 0.0 < least < limits.smallest:
                return f"its constant '{_name(value)}' holds {least:.3g}, which is zero in {_named(found)}"
    if stats is None:
        return ""
    seen = [(v, s) for values, parts in ((node.inputs, stats.inputs), (node.outputs, stats.outputs))
            for v, s in zip(values, parts, strict=False)]  # fmt: skip
    for value, moments in seen:
        reach = _reach(moments)
        if reach * headroom > limits.largest:
            return f"'{_name(value)}' reaches {reach:.3g}, too near the end of {_named(found)}"
    return ""


def extent_of(tensor: ir.TensorProtocol, memo: MutableMapping[Any, Any]) -> Extent:
    """Extent of a constant, found once however many forks ask."""
    key = ("extent", id(tensor))
    if key not in memo:
        numbers = np.abs(tensor.numpy())
        numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
        extent = Extent(float(numbers.max()), float(numbers.min())) if numbers.size else Extent(0.0, 0.0)
        memo[key] = (tensor, extent)
    found: Extent = memo[key][1]
    return found


def _reach(moments: TensorStats | None) -> float:
    return 0.0 if moments is None else max(abs(moments.minimum), abs(moments.maximum))


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _named(found: Conversion) -> str:
    return found.dtype.name.lower()
