"""Operators over windows of an image: channels pass, places stay."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import Walk, input_at, integers


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
