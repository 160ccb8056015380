"""What changed in the standard operators, so that old nodes must change to mean the same.

Opsets 1 to 5 predate the runtimes at hand: what changed in them is refused, what did not is kept. Changes that only
add types, inputs, or attributes with fitting defaults need nothing here.
https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.opset_edit import Edit, Refusal, refuse_reference, set_inputs

Adapter = Callable[[ir.Node, Edit], None]


def _too_old(node: ir.Node, edit: Edit) -> None:
    raise Refusal("its operator was another one then")


def _drop(*attributes: str) -> Adapter:
    """Attributes without a meaning for inference."""

    def adapter(node: ir.Node, edit: Edit) -> None:
        for attribute in attributes:
            node.attributes.pop(attribute, None)

    return adapter


def _broadcast_7(node: ir.Node, edit: Edit) -> None:
    """`axis` said which dimension of A the first of B goes with; since, the last ones go together."""
    refuse_reference(node, "axis")
    axis = node.attributes.get_int("axis")
    _drop("axis", "broadcast", "consumed_inputs")(node, edit)
    a, b = node.inputs
    if axis is None:
        return
    if a is None or b is None or a.shape is None or b.shape is None:
        raise Refusal("its inputs' shapes are unknown")
    start = axis + len(a.shape) if axis < 0 else axis
    _append_ones(node, 1, len(a.shape) - start - len(b.shape), edit)


def _prelu_7(node: ir.Node, edit: Edit) -> None:
    """slope: one value per channel, [channels] before, [channels, 1, ...] since."""
    x, slope = node.inputs
    if x is None or slope is None or x.shape is None or slope.shape is None:
        raise Refusal("its inputs' shapes are unknown")
    if len(slope.shape) == 1 and slope.shape[0] != 1:
        _append_ones(node, 1, len(x.shape) - 2, edit)


def _append_ones(node: ir.Node, index: int, count: int, edit: Edit) -> None:
    """Give an input `count` more dimensions at the end. A 0 in Reshape's shape keeps the dimension."""
    value = node.inputs[index]
    if value is not None and value.shape is not None and count > 0:
        shape = edit.constant(node, "shape", np.array([0] * len(value.shape) + [1] * count, np.int64))
        node.replace_input_with(index, edit.insert(node, "Reshape", (value, shape), (), "aligned"))


def _batchnorm_9(node: ir.Node, edit: Edit) -> None:
    """`spatial` goes; the statistics of spatial=0, one per position, have no equal."""
    refuse_reference(node, "spatial")
    if node.attributes.get_int("spatial", 1) == 0:
        raise Refusal("spatial=0 has no equal")
    node.attributes.pop("spatial", None)


def _batchnorm_14(node: ir.Node, edit: Edit) -> None:
    """More than one output, used or not, meant training: normalize by the statistics of the batch."""
    if any(value.name for value in node.outputs[1:]):
        raise Refusal("it is in training mode")


def _clip_11(node: ir.Node, edit: Edit) -> None:
    """min and max become scalar inputs of the input's type; the limits of float32 mean none."""
    for attribute in ("min", "max"):
        limit = node.attributes.get(attribute)
        if limit is not None and not limit.is_ref() and abs(limit.as_float()) >= np.finfo(np.float32).max:
            node.attributes.pop(attribute)
    dtype = _dtype(node)
    set_inputs(node, node.inputs[0], edit.take(node, "min", dtype), edit.take(node, "max", dtype))


def _dft_20(node: ir.Node, edit: Edit) -> None:
    """axis becomes an input, and its default changes from 1 to -2."""
    axis = edit.take(node, "axis", np.int64)
    length = node.inputs[1] if len(node.inputs) > 1 else None
    set_inputs(node, node.inputs[0], length, axis or edit.constant(node, "axis", np.array(1, np.int64)))


def _dropout_10(node: ir.Node, edit: Edit) -> None:
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise Refusal("its mask, which becomes boolean, is used")


def _dropout_12(node: ir.Node, edit: Edit) -> None:
    set_inputs(node, node.inputs[0], edit.take(node, "ratio", np.float32))


def _grid_sample_20(node: ir.Node, edit: Edit) -> None:
    """Modes are renamed, as they serve any rank now."""
    refuse_reference(node, "mode")
    mode = node.attributes.get_string("mode", "bilinear")
    node.attributes["mode"] = ir.AttrString("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _group_norm_21(node: ir.Node, edit: Edit) -> None:
    """scale and bias: [groups] -> [channels], each value repeated."""
    groups = node.attributes.get_int("num_groups")
    x, scale, bias = node.inputs
    channels = x.shape[1] if x is not None and x.shape is not None and len(x.shape) > 1 else None
    if groups is None or not isinstance(channels, int):
        raise Refusal("its number of channels is unknown")
    column = edit.constant(node, "column", np.array([-1, 1], np.int64))
    wide = edit.constant(node, "repeats", np.array([1, channels // groups], np.int64))
    flat = edit.constant(node, "flat", np.array([-1], np.int64))
    for k, value in ((1, scale), (2, bias)):
        tall = edit.insert(node, "Reshape", (value, column), (), f"column{k}")
        repeated = edit.insert(node, "Expand", (tall, wide), (), f"repeat{k}")
        node.replace_input_with(k, edit.insert(node, "Reshape", (repeated, flat), (), f"flat{k}"))


def _pad_11(node: ir.Node, edit: Edit) -> None:
    value = node.attributes.get("value")
    if value is not None and not value.is_ref() and value.as_float() == 0.0:
        node.attributes.pop("value")
    pads = edit.take(node, "pads", np.int64, as_list=True)
    set_inputs(node, node.inputs[0], pads, edit.take(node, "value", _dtype(node)))


def _axes_to_input(node: ir.Node, edit: Edit) -> None:
    axes = node.attributes.get("axes")
    if axes is not None and not axes.is_ref() and not axes.as_ints() and node.op_type != "Unsqueeze":
        node.attributes.pop("axes")
    set_inputs(node, node.inputs[0], edit.take(node, "axes", np.int64, as_list=True))


def _resize_11(node: ir.Node, edit: Edit) -> None:
    """Before, x_original = x_resized / scale, and the nearest was floor.

    ONNX Runtime takes ceil where it shrinks (upsamplebase.h, `SIMPLE`), and it is what the original is compared with.
    """
    x, scales = node.inputs
    roi = None if edit.target >= 13 else edit.constant(node, "roi", np.empty(0, np.float32))
    set_inputs(node, x, roi, scales)
    factors = scales.const_value.numpy() if scales is not None and scales.const_value is not None else np.ones(1)
    shrinks = bool((factors < 1).any() and not (factors > 1).any())
    mode = "coordinate_transformation_mode"
    node.attributes[mode] = ir.AttrString(mode, "asymmetric")
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if shrinks else "floor")


def _roi_align_16(node: ir.Node, edit: Edit) -> None:
    mode = "coordinate_transformation_mode"
    node.attributes[mode] = ir.AttrString(mode, "output_half_pixel")


def _scan_9(node: ir.Node, edit: Edit) -> None:
    raise Refusal("Scan had a batch dimension, which is gone")


def _scatter_11(node: ir.Node, edit: Edit) -> None:
    node.op_type = "ScatterElements"


def _slice_10(node: ir.Node, edit: Edit) -> None:
    taken = [edit.take(node, name, np.int64, as_list=True) for name in ("starts", "ends", "axes")]
    set_inputs(node, node.inputs[0], *taken)


def _softmax_13(node: ir.Node, edit: Edit) -> None:
    """Before, dimensions from `axis` (default 1) on were one; since, `axis` (default -1) is the only one.

    The same where at most one of these dimensions is not 1; else reshape to two dimensions and back.
    """
    found = node.attributes.get("axis")
    x = node.inputs[0]
    if found is None or not found.is_ref():
        axis = found.as_int() if found is not None else 1
        single = _single_axis(x, axis)
        if single is not None:
            node.attributes["axis"] = ir.AttrInt64("axis", single)
            return
        found = ir.AttrInt64("axis", axis)
    flat = edit.insert(node, "Flatten", (x,), (found,), "flat")
    shape = edit.insert(node, "Shape", (x,), (), "shape")
    result = edit.insert(node, node.op_type, (flat,), (ir.AttrInt64("axis", 1),), "rows")
    node.op_type = "Reshape"
    node.attributes.clear()
    set_inputs(node, result, shape)


def _single_axis(x: ir.Value | None, axis: int) -> int | None:
    """The one axis that the dimensions from `axis` on come down to; None when there are several or unknown ones."""
    if axis == -1:
        return axis
    if x is None or x.shape is None:
        return None
    rank = len(x.shape)
    start = axis + rank if axis < 0 else axis
    wide = [k for k in range(start, rank) if x.shape[k] != 1]
    return None if len(wide) > 1 or start >= rank else wide[0] if wide else rank - 1


def _split_13(node: ir.Node, edit: Edit) -> None:
    set_inputs(node, node.inputs[0], edit.take(node, "split", np.int64, as_list=True))


def _split_18(node: ir.Node, edit: Edit) -> None:
    """Equal parts are asked for by their number now."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _topk_10(node: ir.Node, edit: Edit) -> None:
    set_inputs(node, node.inputs[0], edit.take(node, "k", np.int64, as_list=True))


def _upsample_9(node: ir.Node, edit: Edit) -> None:
    set_inputs(node, node.inputs[0], edit.take(node, "scales", np.float32, as_list=True))


def _upsample_10(node: ir.Node, edit: Edit) -> None:
    node.op_type = "Resize"


def _dtype(node: ir.Node) -> np.dtype[np.generic]:
    """The type of the first input; float32 where it is unknown, as a runtime would refuse what does not fit."""
    first = node.inputs[0]
    return np.dtype(np.float32) if first is None or first.dtype is None else first.dtype.numpy()


_REDUCTIONS_18 = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

_BINARY_7 = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
_IN_PLACE_6 = (
    *("Abs", "BatchNormalization", "Ceil", "Clip", "Dropout", "Elu", "Exp", "Floor", "HardSigmoid"),
    *("InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Neg", "PRelu", "Reciprocal", "Relu"),
    *("Sigmoid", "Sqrt", "Sum", "Tanh"),
)
_TOO_OLD = (
    *(("GlobalLpPool", 2), ("LpPool", 2), ("Pad", 2), ("Split", 2), ("GRU", 3), ("Concat", 4), ("Reshape", 5)),
    *(("Cast", 6), ("Selu", 6), ("Tile", 6), ("Upsample", 7)),
)

ADAPTERS: Mapping[tuple[str, int], Adapter] = {
    **dict.fromkeys(_TOO_OLD, _too_old),
    **{(op_type, 6): _drop("consumed_inputs") for op_type in _IN_PLACE_6},
    **{(op_type, 7): _broadcast_7 for op_type in _BINARY_7},
    **{(op_type, 7): _drop("output_sequence") for op_type in ("GRU", "LSTM", "RNN")},
    **{(op_type, 7): _drop("is_test") for op_type in ("BatchNormalization", "Dropout")},
    ("Gemm", 7): _drop("broadcast"),
    ("PRelu", 7): _prelu_7,
    ("BatchNormalization", 9): _batchnorm_9,
    ("Scan", 9): _scan_9,
    ("Upsample", 9): _upsample_9,
    ("Dropout", 10): _dropout_10,
    ("Slice", 10): _slice_10,
    ("TopK", 10): _topk_10,
    ("Upsample", 10): _upsample_10,
    ("Clip", 11): _clip_11,
    ("Pad", 11): _pad_11,
    ("Resize", 11): _resize_11,
    ("Scatter", 11): _scatter_11,
    ("Dropout", 12): _dropout_12,
    ("Hardmax", 13): _softmax_13,
    ("LogSoftmax", 13): _softmax_13,
    ("ReduceSum", 13): _axes_to_input,
    ("Softmax", 13): _softmax_13,
    ("Split", 13): _split_13,
    ("Squeeze", 13): _axes_to_input,
    ("Unsqueeze", 13): _axes_to_input,
    ("BatchNormalization", 14): _batchnorm_14,
    ("RoiAlign", 16): _roi_align_16,
    **{(f"Reduce{kind}", 18): _axes_to_input for kind in _REDUCTIONS_18},
    ("Split", 18): _split_18,
    ("DFT", 20): _dft_20,
    ("GridSample", 20): _grid_sample_20,
    ("GroupNormalization", 21): _group_norm_21,
}

NEEDS_SHAPES = frozenset(
    {
        *((op_type, 7) for op_type in (*_BINARY_7, "PRelu")),
        ("Clip", 11),
        ("Pad", 11),
        ("Hardmax", 13),
        ("LogSoftmax", 13),
        ("Softmax", 13),
        ("GroupNormalization", 21),
    }
)
