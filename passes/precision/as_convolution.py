"""Operators that are written as a Conv, because integer Conv is fast and keeps channels last.

AveragePool             depthwise Conv by 1 / area: ten times faster than ONNX Runtime's QLinearAveragePool (1.31)
BatchNormalization      depthwise 1x1 Conv:  W = gamma / sigma      b = beta - mean gamma / sigma
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.units import Unit, array_of
from lwc.passes.precision.lowered import Lowered, input_of, result, with_weight

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter

_EPSILON = 1e-5  # the default of BatchNormalization


def averages_whole_windows(node: ir.Node) -> bool:
    """Whether every window of an AveragePool counts the same number of values, over a known number of channels."""
    value, attributes = node.inputs[0], node.attributes
    counted = not any(attributes.get_ints("pads", ())) or attributes.get_int("count_include_pad", 0) == 1
    whole = attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return value is not None and _channels(value) > 0 and counted and whole and "dilations" not in attributes


def lower_average(rewriter: Rewriter, unit: Unit) -> Lowered:
    attributes = unit.node.attributes
    kernel = attributes.get_ints("kernel_shape", ())
    channels = _channels(input_of(unit))
    window = np.full((channels, 1, *kernel), 1.0 / np.prod(kernel), np.float32)
    kept = {key: attributes[key] for key in ("kernel_shape", "pads", "strides", "auto_pad") if key in attributes}
    return _lower(rewriter, unit, window, None, {**kept, "group": channels})


def lower_batch_norm(rewriter: Rewriter, unit: Unit) -> Lowered:
    gamma, beta, mean, variance = (array_of(input_of(unit, k)).astype(np.float64) for k in (1, 2, 3, 4))
    factor = gamma / np.sqrt(variance + unit.node.attributes.get_float("epsilon", _EPSILON))
    spatial = len(input_of(unit).shape or ()) - 2
    weight = factor.astype(np.float32).reshape(-1, 1, *(1,) * spatial)
    return _lower(rewriter, unit, weight, (beta - mean * factor).astype(np.float32), {"group": len(weight)})


def _lower(
    rewriter: Rewriter, unit: Unit, weight: NDArray[Any], bias: NDArray[Any] | None, attributes: dict[str, Any]
) -> Lowered:
    """A Conv in the place of the unit's node. The float constants made here go when the rewrite is done."""
    node, writer = unit.node, rewriter.writer
    constants: list[ir.Value | None] = [writer.constant(f"{node.name}.weight", weight)]
    if bias is not None:
        constants.append(writer.constant(f"{node.name}.bias", bias))
    conv = writer.node("Conv", [input_of(unit), *constants], node.outputs[0], ".conv", attributes)
    conv.name = node.name
    rewriter.graph.insert_before(node, conv)
    as_conv = replace(
        unit, node=conv, inputs=(0,), constants=(), weight=1, axis=0, bias=constants[1] if bias is not None else None
    )
    return result(rewriter, unit, with_weight(rewriter, as_conv).value, kept=False)


def _channels(value: ir.Value) -> int:
    """0 when unknown."""
    channels = value.shape[1] if value.shape is not None and len(value.shape) > 2 else None
    return channels if isinstance(channels, int) else 0
