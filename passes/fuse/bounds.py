"""The interval that a Relu or a Clip with constant limits leaves."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lwc.passes.edit import constant_number, input_of, is_op

FIRST_WITH_BOUND_INPUTS = 11

Bounds = tuple[float, float]


def bounds_of(node: ir.Node, version: int) -> Bounds | None:
    """(low, high) of a Relu or constant Clip of floats, with infinities where it has no limit. version: opset"""
    value = node.inputs[0] if node.inputs else None
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    if is_op(node, "Relu"):
        return 0.0, np.inf
    if not is_op(node, "Clip"):
        return None
    if version < FIRST_WITH_BOUND_INPUTS:
        low, high = node.attributes.get_float("min", -np.inf), node.attributes.get_float("max", np.inf)
        return (low, high) if low <= high else None
    given = [_limit(input_of(node, 1), -np.inf), _limit(input_of(node, 2), np.inf)]
    limits = [limit for limit in given if limit is not None]
    return (limits[0], limits[1]) if len(limits) == 2 and limits[0] <= limits[1] else None


def _limit(value: ir.Value | None, default: float) -> float | None:
    return default if value is None else constant_number(value)
