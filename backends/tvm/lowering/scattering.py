"""Operators that put pieces into a tensor: columns into images, tokens into a cache."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, const, dtype_of, ints_of, shape_of, text_of


def col2im(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Col2Im: blocks [batch, channels * block, count] summed where they overlap, one element of a block at a time."""
    x = inputs[0]
    image, block = ints_of(inputs[1], "the image's shape"), ints_of(inputs[2], "the block's shape")
    spatial = len(image)
    strides, dilations = attrs.get("strides", (1,) * spatial), attrs.get("dilations", (1,) * spatial)
    pads = attrs.get("pads", (0,) * (2 * spatial))
    padded = [image[k] + pads[k] + pads[spatial + k] for k in range(spatial)]
    counts = [(padded[k] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1 for k in range(spatial)]
    batch, rows, _ = shape_of(x)
    channels = rows // int(np.prod(block))
    pieces = bb.emit(relax.op.reshape(x, [batch, channels, int(np.prod(block)), *counts]))
    total = None
    for index, place in enumerate(itertools.product(*(range(size) for size in block))):
        piece = relax.op.take(pieces, const(index, "int64"), axis=2)
        for k in range(spatial):
            source = (np.arange(padded[k]) - place[k] * dilations[k]) / strides[k]
            inside = (source == np.floor(source)) & (source >= 0) & (source < counts[k])
            piece = relax.op.take(piece, const(np.where(inside, source, 0), "int64"), axis=2 + k)
            flags = inside.reshape([-1 if axis == 2 + k else 1 for axis in range(2 + spatial)])
            piece = relax.op.multiply(piece, const(flags, dtype_of(x)))
        total = bb.emit(piece if total is None else relax.op.add(total, piece))
    ends = [pads[k] + image[k] for k in range(spatial)]
    return relax.op.strided_slice(total, [2 + k for k in range(spatial)], list(pads[:spatial]), ends)


def tensor_scatter(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """TensorScatter: each batch's update written from its own index on, around the end in circular mode."""
    cache, update, starts = [*inputs, None][:3]
    dims, length = shape_of(cache), shape_of(update)
    axis = attrs.get("axis", -2) % len(dims)
    if axis == 0:
        raise NotImplementedError("its axis is that of the batch.")
    begin = const(np.zeros(dims[0]), "int64") if starts is None else starts
    column = [dims[0], *([1] * (len(dims) - 1))]
    offsets = np.arange(length[axis]).reshape([-1 if a == axis else 1 for a in range(len(dims))])
    places = relax.op.add(relax.op.reshape(begin, column), const(offsets, "int64"))
    if text_of(attrs, "mode", "linear") == "circular":
        places = relax.op.floor_mod(places, relax.const(dims[axis], "int64"))
    spread = bb.emit(relax.op.broadcast_to(places, length))
    return relax.op.scatter_elements(cache, spread, update, axis)


RULES = {"Col2Im": col2im, "TensorScatter": tensor_scatter}
