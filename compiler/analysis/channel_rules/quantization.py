"""QuantizeLinear, DequantizeLinear: scales per tensor, per channel of an axis, or per block of channels."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import Walk, from_front, input_at


def linear(node: ir.Node, walk: Walk) -> None:
    """Scale and zero point have one axis, or all of x with one of them in blocks."""
    x, block = walk.axes(node, 0), node.attributes.get_int("block_size", 0)
    for index in (1, 2):
        if input_at(node, index) is None:
            continue
        scale = walk.axes(node, index)
        place = from_front(node.attributes.get_int("axis", 1), max(len(x), 1))
        if len(scale) == 1 and scale[0] is not None:
            walk.unify(node, scale[0], x[place])
        elif block and len(scale) == len(x):
            size = walk.atom(block)
            walk.pin(node, [size], "it counts what shares a scale")
            for k, (own, axis) in enumerate(zip(scale, x, strict=True)):
                walk.unify(node, axis, walk.join([own, size]) if k == place else own)
    walk.give(node, x)


def dynamic(node: ir.Node, walk: Walk) -> None:
    """Scale and zero point are those of the extremes of all values."""
    x = walk.axes(node, 0)
    walk.averages(x)
    for output in range(len(node.outputs)):
        walk.give(node, () if output else x, output)
