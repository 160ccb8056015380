"""When a node of the standard domain hands its input through unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from lwc.passes.edit import constant_array, constant_ints, input_of, ints_of, is_op, rank, same_dims, static_shape

NEVER_ENDS = 2**31 - 1
# Coordinate modes where a scale of one maps every position to itself; tf_half_pixel_for_nn shifts by half a pixel.
PLAIN_COORDINATES = frozenset({"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"})

Rule = Callable[[ir.Node, int], ir.Value | None]


def equal_input(node: ir.Node, version: int) -> ir.Value | None:
    """The input that output 0 always equals, if any; no other output may be in use. version: opset"""
    rule = RULES.get(node.op_type)
    if rule is None or not is_op(node, node.op_type):
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    return rule(node, version)


def _first(node: ir.Node, version: int) -> ir.Value | None:
    return node.inputs[0]


def _only_input(node: ir.Node, version: int) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _only_output(node: ir.Node, version: int) -> ir.Value | None:
    return node.inputs[0] if len(node.outputs) == 1 and node.attributes.get_int("num_outputs", 1) == 1 else None


def _dropout(node: ir.Node, version: int) -> ir.Value | None:
    """Before opset 7 `is_test` tells training from inference, from 12 on input `training_mode`, between nothing."""
    if version < 7:
        return node.inputs[0] if node.attributes.get_int("is_test", 0) else None
    mode = input_of(node, 2)
    if mode is None:
        return node.inputs[0]
    training = constant_array(mode)
    return node.inputs[0] if training is not None and not training.any() else None


def _cast(node: ir.Node, version: int) -> ir.Value | None:
    value, to = node.inputs[0], node.attributes.get("to")
    if value is None or to is None or to.is_ref() or value.dtype is None:
        return None
    return value if to.type == ir.AttributeType.INT and value.dtype == to.as_int() else None


def _cast_like(node: ir.Node, version: int) -> ir.Value | None:
    value, like = node.inputs
    same = value is not None and like is not None and value.dtype is not None and value.dtype == like.dtype
    return value if same else None


def _transpose(node: ir.Node, version: int) -> ir.Value | None:
    permutation = node.attributes.get("perm")
    if permutation is None:
        dims = rank(node.inputs[0])
        return node.inputs[0] if dims is not None and dims <= 1 else None
    if permutation.is_ref():
        return None
    axes = list(permutation.as_ints())
    return node.inputs[0] if axes == list(range(len(axes))) else None


def _reshape(node: ir.Node, version: int) -> ir.Value | None:
    """Every wanted dimension is the one that is there (0: copy it), but for one -1, which then is that one too."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    if same_dims(value.shape, node.outputs[0].shape):
        return value
    wanted = ints_of(node, "shape", 1)
    if wanted is None or len(wanted) != len(value.shape) or wanted.count(-1) > 1:
        return None
    copies = 0 if node.attributes.get_int("allowzero", 0) == 0 else None
    fits = all(w in (copies, -1) or w == dim for w, dim in zip(wanted, value.shape, strict=True))
    return value if fits else None


def _expand(node: ir.Node, version: int) -> ir.Value | None:
    value, wanted = node.inputs[0], constant_ints(node.inputs[1])
    if value is None or value.shape is None:
        return None
    if same_dims(value.shape, node.outputs[0].shape):
        return value
    if wanted is None or len(wanted) > len(value.shape):
        return None
    dims = list(value.shape)[len(value.shape) - len(wanted) :]
    return value if all(w in (1, dim) for w, dim in zip(wanted, dims, strict=True)) else None


def _flatten(node: ir.Node, version: int) -> ir.Value | None:
    return node.inputs[0] if rank(node.inputs[0]) == 2 and node.attributes.get_int("axis", 1) in (1, -1) else None


def _neutral(number: float, sides: tuple[int, ...]) -> Rule:
    """x op c = x for a constant c of this number that does not broadcast x to a larger shape."""

    def rule(node: ir.Node, version: int) -> ir.Value | None:
        if version < 7 or len(node.inputs) != 2:  # before opset 7 broadcasting was an attribute
            return None
        for side in sides:
            neutral = constant_array(node.inputs[side])
            if neutral is None or neutral.size > 4096 or not (neutral == number).all():
                continue
            if neutral.size and _fits_into(neutral.shape, node.inputs[1 - side]):
                return node.inputs[1 - side]
        return None

    return rule


def _fits_into(shape: tuple[int, ...], value: ir.Value | None) -> bool:
    """Whether broadcasting `value` with a tensor of this shape leaves its shape alone."""
    if not shape:
        return True
    if value is None or value.shape is None or len(shape) > len(value.shape):
        return False
    dims = list(value.shape)[len(value.shape) - len(shape) :]
    return all(s in (1, dim) for s, dim in zip(shape, dims, strict=True))


def _slice(node: ir.Node, version: int) -> ir.Value | None:
    value = node.inputs[0]
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    axes, steps = ints_of(node, "axes", 3), constant_ints(input_of(node, 4)) if input_of(node, 4) else [1]
    if value is None or starts is None or ends is None or axes is None or steps is None:
        return None
    if any(starts) or set(steps) != {1}:
        return None
    dims = list(value.shape) if value.shape is not None else None
    for axis, end in zip(axes or range(len(ends)), ends, strict=True):
        dim = dims[axis] if dims is not None else None
        if not (end >= NEVER_ENDS or (isinstance(dim, int) and end >= dim)):
            return None
    return value


def _pad(node: ir.Node, version: int) -> ir.Value | None:
    pads = ints_of(node, "pads", 1)
    return node.inputs[0] if pads is not None and not any(pads) else None


def _tile(node: ir.Node, version: int) -> ir.Value | None:
    repeats = constant_ints(input_of(node, 1))
    return node.inputs[0] if version >= 6 and repeats is not None and set(repeats) <= {1} else None


def _resize(node: ir.Node, version: int) -> ir.Value | None:
    attributes = node.attributes
    if version < 11 or attributes.get_string("mode", "nearest") not in ("nearest", "linear"):
        return None
    if attributes.get_string("coordinate_transformation_mode", "half_pixel") not in PLAIN_COORDINATES:
        return None
    scales = constant_array(input_of(node, 2))
    if scales is not None and scales.size:
        return node.inputs[0] if bool(np.all(scales == 1)) else None
    before, after = static_shape(node.inputs[0]), constant_ints(input_of(node, 3))
    unchanged = before is not None and after is not None and list(before) == after and "axes" not in attributes
    return node.inputs[0] if unchanged else None


def _pool(node: ir.Node, version: int) -> ir.Value | None:
    attributes = node.attributes
    if attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    ones = (*attributes.get_ints("kernel_shape", (0,)), *attributes.get_ints("strides", ()))
    return node.inputs[0] if set(ones) == {1} and not any(attributes.get_ints("pads", ())) else None


RULES: Mapping[str, Rule] = {
    "Identity": _first,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Add": _neutral(0, (0, 1)),
    "Sub": _neutral(0, (1,)),
    "Mul": _neutral(1, (0, 1)),
    "Div": _neutral(1, (1,)),
    "Pow": _neutral(1, (1,)),
    "And": _neutral(True, (0, 1)),
    "Or": _neutral(False, (0, 1)),
    "Slice": _slice,
    "Pad": _pad,
    "Tile": _tile,
    "Resize": _resize,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Split": _only_output,
    "Concat": _only_input,
    "Sum": _only_input,
    "Mean": _only_input,
    "Max": _only_input,
    "Min": _only_input,
}
