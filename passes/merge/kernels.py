"""Kernels of convolutions in the frame of a larger one: the same pixels are read, with zeros around them."""

from __future__ import annotations

import numpy as np

from lwc.passes.fuse.linear import Linear
from lwc.passes.merge.branches import Floats


def identity_kernel(layer: Linear) -> Floats | None:
    """The kernel of this layer's shape that gives its input; None when its result has another shape."""
    attributes, (outputs, inputs), sizes = layer.node.attributes, layer.weight.shape[:2], layer.weight.shape[2:]
    begins, ends, dilations, strides = _frame(layer)
    if outputs != inputs * attributes.get_int("group", 1) or set(strides) != {1}:
        return None
    for begin, end, size, dilation in zip(begins, ends, sizes, dilations, strict=True):
        if begin + end != (size - 1) * dilation or begin % dilation or begin < 0 or end < 0:
            return None
    found = np.zeros(layer.weight.shape)
    middle = (begin // dilation for begin, dilation in zip(begins, dilations, strict=True))
    found[(np.arange(outputs), np.arange(outputs) % inputs, *middle)] = 1.0
    return found


def widened_kernel(weight: Floats, small: Linear, large: Linear) -> Floats | None:
    """The weight [out, in ...] of the small layer in the shape of the large one's.

    None when they do not agree in strides and groups, or the small one reads pixels that the large one does not.
    """
    groups = [layer.node.attributes.get_int("group", 1) for layer in (small, large)]
    shape, sizes = large.weight.shape, weight.shape[2:]
    if weight.ndim != len(shape) or weight.shape[:2] != shape[:2] or groups[0] != groups[1]:
        return None
    frames = [_frame(layer) for layer in (small, large)]
    if frames[0][3] != frames[1][3]:
        return None
    places: list[slice] = []
    axes = zip(sizes, shape[2:], *(zip(*one[:3], strict=True) for one in frames), strict=True)
    for size, room, (begin, end, step), (first, last, stride) in axes:
        shift, extra = first - begin, (room - 1) * stride - (size - 1) * step
        offset, rest = divmod(shift, stride)
        fits = not rest and 0 <= offset <= room - size and last - end == extra - shift
        if not fits or (size > 1 and step != stride):
            return None
        places.append(slice(offset, offset + size))
    found = np.zeros(shape)
    found[(slice(None), slice(None), *places)] = weight
    return found


def _frame(layer: Linear) -> tuple[list[int], list[int], list[int], list[int]]:
    """Begin pads, end pads, dilations and strides, per spatial axis."""
    axes, attributes = layer.weight.ndim - 2, layer.node.attributes
    pads = list(attributes.get_ints("pads", (0,) * (2 * axes)))
    dilations, strides = (list(attributes.get_ints(name, (1,) * axes)) for name in ("dilations", "strides"))
    return pads[:axes], pads[axes:], dilations, strides
