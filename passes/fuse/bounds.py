"""The interval that a Relu or a Clip with constant limits leaves."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from lwc.passes.edit import constant_number, input_of, is_op

FIRST_WITH_BOUND_INPUTS = 11

Bounds = tuple[float, float]


def bounds_of(node: ir.Node, version: int) -> Bounds | None:
    """(low, high) of a Relu or constant Clip of floats; (0, inf) for Relu. version: opset

    Where a Clip names no limit, it is the type's largest finite number: it cuts infinities off.
    """
    value = node.inputs[0] if node.inputs else None
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    if is_op(node, "Relu"):
        return 0.0, np.inf
    if not is_op(node, "Clip"):
        return None
    largest = largest_of(value.dtype)
    if version < FIRST_WITH_BOUND_INPUTS:
        low, high = node.attributes.get_float("min", -largest), node.attributes.get_float("max", largest)
        return (low, high) if low <= high else None
    given = [_limit(input_of(node, 1), -largest), _limit(input_of(node, 2), largest)]
    limits = [limit for limit in given if limit is not None]
    return (limits[0], limits[1]) if len(limits) == 2 and limits[0] <= limits[1] else None


def largest_of(dtype: ir.DataType) -> float:
    """The largest finite number of a floating point type."""
    return float(ml_dtypes.finfo(dtype.numpy()).max)  # type: ignore[no-untyped-call]


def _limit(value: ir.Value | None, default: float) -> float | None:
    return default if value is None else constant_number(value)
