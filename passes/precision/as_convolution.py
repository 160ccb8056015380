"""Operators that are written as a Conv, because integer Conv is fast and keeps channels last.

AveragePool             depthwise Conv by 1 / area: ten times faster than ONNX Runtime's QLinearAveragePool (1.31)
BatchNormalization      depthwise 1x1 Conv:  W = gamma / sigma      b = beta - mean gamma / sigma
Conv of few channels    of stride 2, the first layer of most networks: SpaceToDepth, and a Conv of stride 1 with
                        4 times the channels and half the kernel, which copies longer rows of bytes

The last, per axis with padding p and kernel k: P = ceil(p/2), e = 2 P - p, K = ceil((k + e)/2), and
    2 i - p + u = 2 (i - P + a) + b     so     W'[o, (b, c), a] = W[o, c, 2 a + b - e]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit, array_of
from lwc.passes.edit import static_shape
from lwc.passes.precision.integers import Codes
from lwc.passes.precision.lowered import Lowered, input_of, insert, result, with_weight

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter

_EPSILON = 1e-5  # the default of BatchNormalization
_FEW_CHANNELS = 4


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


def is_stem(node: ir.Node) -> bool:
    """Whether this is a Conv of stride 2 over at most 4 channels of an image of known, even size."""
    attributes, weight = node.attributes, node.inputs[1]
    size = () if node.inputs[0] is None else static_shape(node.inputs[0]) or ()
    if weight is None or len(size) != 4 or node.op_type != "Conv" or size[1] > _FEW_CHANNELS:
        return False
    dense = attributes.get_int("group", 1) == 1 and all(d == 1 for d in attributes.get_ints("dilations", (1,)))
    halves = list(attributes.get_ints("strides", ())) == [2, 2] and size[2] % 2 == 0 and size[3] % 2 == 0
    plain = attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if not (dense and halves and plain) or min(array_of(weight).shape[2:]) < 3:
        return False
    return all(axis.pads[1] >= 0 for axis in _axes(node, size))


def lower_stem(rewriter: Rewriter, unit: Unit) -> Lowered:
    image, writer = input_of(unit), rewriter.writer
    codes = rewriter.codes(image)
    blocks = writer.node("SpaceToDepth", [codes.value], image, ".blocks", {"blocksize": 2})
    blocks.outputs[0].shape = None
    blocks.metadata_props[SITE_KEY] = unit.node.name or ""
    value = insert(rewriter, unit.node, blocks, codes.value.type)
    rewriter.let_stand_for(value, Codes(value, codes.scale))
    rows, columns = _axes(unit.node, static_shape(image) or ())
    weight = array_of(input_of(unit, 1))
    padded = np.pad(weight, [(0, 0), (0, 0), *(_margins(axis) for axis in (rows, columns))])
    outputs, channels = weight.shape[:2]
    if unit.node.name in rewriter.means:
        rewriter.means[unit.node.name] = np.tile(rewriter.means[unit.node.name], 4)
    split = padded.reshape(outputs, channels, rows.kernel, 2, columns.kernel, 2).transpose(0, 3, 5, 1, 2, 4)
    pads = [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]]
    arranged = np.ascontiguousarray(split).reshape(outputs, 4 * channels, rows.kernel, columns.kernel)
    bias = None if unit.bias is None else array_of(unit.bias)
    return _lower(rewriter, unit, arranged, bias, {"pads": pads}, value)


@dataclass(frozen=True)
class _Axis:
    """size: of the old kernel;  shift: e above;  kernel, pads: of the new Conv"""

    size: int
    shift: int
    kernel: int
    pads: tuple[int, int]


def _axes(node: ir.Node, size: tuple[int, ...]) -> tuple[_Axis, _Axis]:
    weight = node.inputs[1]
    assert weight is not None
    given = node.attributes.get_ints("pads", (0, 0, 0, 0))
    first, second = (_axis(int(array_of(weight).shape[2 + k]), given[k], given[2 + k], size[2 + k]) for k in range(2))
    return first, second


def _axis(kernel: int, before: int, after: int, size: int) -> _Axis:
    start = -(-before // 2)
    shift = 2 * start - before
    halved = -(-(kernel + shift) // 2)
    out = (size + before + after - kernel) // 2 + 1
    return _Axis(kernel, shift, halved, (start, out - 1 + halved - start - size // 2))


def _margins(axis: _Axis) -> tuple[int, int]:
    return axis.shift, 2 * axis.kernel - axis.size - axis.shift


def lower_batch_norm(rewriter: Rewriter, unit: Unit) -> Lowered:
    gamma, beta, mean, variance = (array_of(input_of(unit, k)).astype(np.float64) for k in (1, 2, 3, 4))
    factor = gamma / np.sqrt(variance + unit.node.attributes.get_float("epsilon", _EPSILON))
    spatial = len(input_of(unit).shape or ()) - 2
    weight = factor.astype(np.float32).reshape(-1, 1, *(1,) * spatial)
    return _lower(rewriter, unit, weight, (beta - mean * factor).astype(np.float32), {"group": len(weight)})


def _lower(
    rewriter: Rewriter,
    unit: Unit,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    attributes: dict[str, Any],
    image: ir.Value | None = None,
) -> Lowered:
    """A Conv in the place of the unit's node. The float constants made here go when the rewrite is done."""
    node, writer = unit.node, rewriter.writer
    constants: list[ir.Value | None] = [writer.constant(f"{node.name}.weight", weight)]
    if bias is not None:
        constants.append(writer.constant(f"{node.name}.bias", bias))
    conv = writer.node("Conv", [image or input_of(unit), *constants], node.outputs[0], ".conv", attributes)
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
