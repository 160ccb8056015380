"""Operators that shift and scale by moments: over an axis of channels, these are others when some are gone."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.elementwise import broadcast
from lwc.compiler.analysis.channel_rules.walk import Axes, Walk, from_front, input_at, integers


def per_channel(node: ir.Node, walk: Walk) -> None:
    """BatchNormalization: numbers per channel of axis 1."""
    x = walk.axes(node, 0)
    for index in range(1, len(node.inputs)):
        walk.unify(node, walk.axes(node, index)[0], x[1])
    walk.give(node, x)
    for output in range(1, len(node.outputs)):
        walk.give(node, x[1:2], output)


def instance_normalization(node: ir.Node, walk: Walk) -> None:
    """Numbers per channel of axis 1, moments over the axes behind it."""
    per_channel(node, walk)
    walk.averages(walk.axes(node, 0)[2:])


def layer_normalization(node: ir.Node, walk: Walk) -> None:
    """Moments over the axes from `axis` on, which scale and bias have too."""
    x = walk.axes(node, 0)
    first = from_front(node.attributes.get_int("axis", -1), len(x))
    whole = [x, *(walk.axes(node, k) for k in (1, 2) if input_at(node, k) is not None)]
    broadcast(walk, node, whole)
    walk.averages(x[first:])
    walk.give(node, x)
    for output in range(1, len(node.outputs)):
        walk.give(node, (*x[:first], *(None,) * (len(x) - first)), output)


def group_normalization(node: ir.Node, walk: Walk) -> None:
    """C = G x c, moments over c; scale and bias are of C, or of G before opset 21."""
    x, groups = walk.axes(node, 0), node.attributes.get_int("num_groups")
    group, inner = walk.atom(groups), walk.atom(walk.size(x[1]) // groups)
    channels = walk.join([group, inner])
    walk.unify(node, x[1], channels)
    for index in (1, 2):
        scale = walk.axes(node, index)[0]
        walk.unify(node, scale, channels if walk.size(scale) == walk.size(x[1]) else group)
    if group is not None:
        walk.follows(node, "num_groups", [group])
    walk.averages((inner, *x[2:]))
    walk.give(node, x)


def over_axis(node: ir.Node, walk: Walk) -> None:
    """LpNormalization, MeanVarianceNormalization: moments over axes of the input."""
    x = walk.axes(node, 0)
    single = node.op_type == "LpNormalization"
    axes = [node.attributes.get_int("axis", -1)] if single else integers(node, "axes") or [0, 2, 3]
    walk.averages(x[k] for k in axes)
    walk.give(node, x)


def softmax(node: ir.Node, walk: Walk) -> None:
    """Every value counts in every other: the axis stays."""
    x = walk.axes(node, 0)
    old = walk.opset < 13
    first = from_front(node.attributes.get_int("axis", 1 if old else -1), len(x))
    walk.pin(node, x[first:] if old else x[first : first + 1], "all values along it are compared")
    walk.give(node, x)


def neighbours(node: ir.Node, walk: Walk) -> None:
    """LRN, CumSum: a channel is computed from those beside it."""
    x, places = walk.axes(node, 0), [1] if node.op_type == "LRN" else integers(node, "", 1)
    walk.pin(node, x if places is None else [x[k] for k in places], "channels are computed from those beside them")
    walk.give(node, x)


def skip_layer_normalization(node: ir.Node, walk: Walk) -> None:
    """com.microsoft: the sum of two inputs and a bias is normalized over the last axis; the last output is the sum."""
    biased = 4 if node.op_type == "SkipLayerNormalization" else 3
    indices = [k for k in range(len(node.inputs)) if input_at(node, k) is not None]
    x = broadcast(walk, node, [walk.axes(node, k) for k in indices if k <= biased])
    walk.averages(x[-1:])
    for output in range(len(node.outputs)):
        walk.give(node, (*x[:-1], None) if output in (1, 2) else x, output)


def reduced(axes: Axes, gone: set[int], keep: bool) -> Axes:
    """The axes of an output without those that are reduced, or with ones in their place."""
    if keep:
        return tuple(None if k in gone else axis for k, axis in enumerate(axes))
    return tuple(axis for k, axis in enumerate(axes) if k not in gone)


def reduction(node: ir.Node, walk: Walk) -> None:
    """Sums are the same without channels that are zero; means and extremes are not."""
    x, axes = walk.axes(node, 0), integers(node, "axes", 1)
    if axes is None:
        return
    if not axes and node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        walk.give(node, x)
        return
    gone = {from_front(k, len(x)) for k in axes} or set(range(len(x)))
    if node.op_type in ("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"):
        for k in gone:
            walk.sums((node, 0, k))
    else:
        walk.averages(x[k] for k in gone)
    walk.give(node, reduced(x, gone, node.attributes.get_int("keepdims", 1) == 1))


def pick(node: ir.Node, walk: Walk) -> None:
    """ArgMax, ArgMin: places along the axis are counted."""
    x = walk.axes(node, 0)
    place = from_front(node.attributes.get_int("axis", 0), len(x))
    walk.pin(node, [x[place]], "places along it are counted")
    walk.give(node, reduced(x, {place}, node.attributes.get_int("keepdims", 1) == 1))


def top_k(node: ir.Node, walk: Walk) -> None:
    """The axis is sorted: it stays, and so do the places found."""
    x = walk.axes(node, 0)
    place = from_front(node.attributes.get_int("axis", -1), len(x))
    for output, value in enumerate(node.outputs):
        own = walk.fresh(value, len(x))[place]
        walk.pin(node, [x[place], own], "places along it are counted")
        walk.give(node, (*x[:place], own, *x[place + 1 :]), output)
