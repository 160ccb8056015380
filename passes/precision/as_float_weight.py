"""An integer weight in float32 by operators that are folded when the model is loaded.

    Mul(Sub(Cast(codes), Cast(zeros)), Cast(scales))        codes [.., groups, group, ..], scales [.., groups, 1, ..]

Run time and memory are float's; the file is small. Where the last group is narrower, the codes keep their shape and
scales are spread over the columns: Slice(Reshape(Expand(scales))).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from lwc.passes.precision.integer_weights import Emitter, IntegerWeight


def float_weight(emitter: Emitter, weight: IntegerWeight) -> ir.Value:
    """The weight's numbers in the shape of the constant, once for all readers."""
    return emitter.once(f"float {weight.shape}", weight, lambda: _float_weight(emitter, weight))


def _float_weight(emitter: Emitter, weight: IntegerWeight) -> ir.Value:
    stored, name = weight.stored, weight.name
    blocks = _blocks(weight, stored.group) if _is_even(weight) else stored.view.shape
    per_group = _blocks(weight, 1)
    aligned = _in_own_shape(weight)
    if aligned is not None:
        blocks, per_group = weight.shape, aligned
    codes = stored.view.back(weight.codes).reshape(blocks)
    result = emitter.as_float(emitter.integers(f"{name}.q", codes, stored.bits))
    if not stored.symmetric:
        zeros = stored.view.back(weight.zeros()).reshape(per_group)
        zero = emitter.as_float(emitter.integers(f"{name}.q_zero", zeros, stored.bits))
        zero = _over_columns(emitter, weight, zero)
        result = emitter.computed("Sub", [result, zero], "sub", blocks)
    scales = stored.view.back(weight.scales()).reshape(per_group)
    scale = emitter.as_float(emitter.constant(f"{name}.q_scale", scales))
    scale = _over_columns(emitter, weight, scale)
    result = emitter.computed("Mul", [result, scale], "mul", blocks)
    return result if blocks == weight.shape else emitter.reshaped(result, weight.shape)


def _in_own_shape(weight: IntegerWeight) -> tuple[int, ...] | None:
    """The shape of scales that meet the constant as it is: one group, whose columns are its last axes."""
    view = weight.stored.view
    if weight.stored.groups > 1 or view.axis != len(view.shape) - 1:
        return None
    axes = next((k for k in range(len(weight.shape)) if math.prod(weight.shape[:k]) == view.rows), None)
    return None if axes is None else (*weight.shape[:axes], *(1 for _ in weight.shape[axes:]))


def _is_even(weight: IntegerWeight) -> bool:
    return weight.stored.view.columns % weight.stored.group == 0


def _blocks(weight: IntegerWeight, size: int) -> tuple[int, ...]:
    """The view's shape with its columns as [groups, size], or as [size] when there is one group."""
    view, groups = weight.stored.view, weight.stored.groups
    columns = (size,) if groups == 1 else (groups, size)
    return (*view.shape[: view.axis], *columns, *view.shape[view.axis + 1 :])


def _over_columns(emitter: Emitter, weight: IntegerWeight, value: ir.Value) -> ir.Value:
    """What is per group, spread over columns when blocks do not meet them."""
    if _is_even(weight):
        return value
    stored, view = weight.stored, weight.stored.view
    wide = _blocks(weight, stored.group)
    joined = (*view.shape[: view.axis], stored.groups * stored.group, *view.shape[view.axis + 1 :])
    value = emitter.computed("Expand", [value, emitter.sizes(wide)], "expand", wide)
    limits = [emitter.sizes([number]) for number in (0, view.columns, view.axis)]
    return emitter.computed("Slice", [emitter.reshaped(value, joined), *limits], "slice", view.shape)
