"""Operators over windows of an image: channels pass, places stay."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import Walk, input_at, integers, present


def pool(node: ir.Node, walk: Walk) -> None:
    """[N, C, ...]. Indices, where they are asked for, count through channels."""
    x = walk.axes(node, 0)
    spatial = walk.fresh(node.outputs[0], len(x))[2:]
    walk.pin(node, (*x[2:], *spatial), "it is spatial")
    walk.give(node, (*x[:2], *spatial))
    if len(node.outputs) > 1:
        walk.pin(node, x, "its places are counted")
        walk.give(node, (*x[:2], *spatial), 1)


def global_pool(node: ir.Node, walk: Walk) -> None:
    """[N, C, 1, ...]."""
    x = walk.axes(node, 0)
    walk.pin(node, x[2:], "it is spatial")
    walk.give(node, (*x[:2], *(None,) * (len(x) - 2)))


def resize(node: ir.Node, walk: Walk) -> None:
    """Axes whose size does not change pass; sizes that are given follow."""
    x = walk.axes(node, 0)
    made = list(walk.fresh(node.outputs[0], len(x)))
    resized = integers(node, "axes") or list(range(len(x)))
    sizes = input_at(node, 3) if node.op_type == "Resize" else None
    for k, axis in enumerate(x):
        passes = k not in resized or (walk.known(axis) and walk.size(axis) == walk.size(made[k]))
        if passes:
            made[k] = axis
        else:
            walk.pin(node, [axis, made[k]], "it is resized")
    for element, place in enumerate(resized):
        if sizes is not None and made[place] is not None:
            walk.follows(node, 3, [made[place]], element, len(resized))
    walk.give(node, made)


def sampled(node: ir.Node, walk: Walk) -> None:
    """GridSample, RoiAlign, MaxRoiPool: places of [N, C, H, W] are looked at from elsewhere; batches may change too."""
    x = walk.axes(node, 0)
    for index in present(node)[1:]:
        walk.pin(node, walk.axes(node, index), "it says where to look")
    own = walk.fresh(node.outputs[0], len(x))
    walk.pin(node, (x[0], *x[2:], own[0], *own[2:]), "it is spatial")
    walk.give(node, (own[0], x[1], *own[2:]))


def columns_to_image(node: ir.Node, walk: Walk) -> None:
    """Col2Im: [N, C x kernel, places] to [N, C, ...]."""
    x = walk.axes(node, 0)
    own = walk.fresh(node.outputs[0], len(x))
    window = walk.atom(walk.size(x[1]) // max(walk.size(own[1]), 1)) if walk.known(own[1]) else None
    walk.unify(node, x[1], walk.join([own[1], window]) if walk.known(own[1]) else own[1])
    walk.pin(node, (window, *x[2:], *own[2:]), "it is spatial")
    walk.give(node, (x[0], *own[1:]))
