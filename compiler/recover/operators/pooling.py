"""Pooling over windows and over all places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes
from lwc.compiler.recover.operators.linear import padded, paddings

Operator = Callable[..., object]

_MAXIMA = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_MEANS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _windows(a: Attributes, x: Tensor) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
    """(kernel, strides, dilations, pads); where sizes are rounded up, pads reach the end of the last window."""
    kernel = a.ints("kernel_shape") or []
    ones = [1] * len(kernel)
    strides, dilations = a.ints("strides", ones) or ones, a.ints("dilations", ones) or ones
    pads = paddings(a, x.shape[2:], kernel, strides, dilations)
    if a.flag("ceil_mode"):
        for k, (begin, end) in enumerate(pads):
            extent = dilations[k] * (kernel[k] - 1) + 1
            size = x.shape[2 + k]
            steps = -(-(size + begin + end - extent) // strides[k])
            if steps * strides[k] >= size + begin:  # a window that would begin in the padding is left out
                steps -= 1
            pads[k] = (begin, max(end, steps * strides[k] + extent - size - begin))
    return kernel, strides, dilations, pads


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads = _windows(a, x)
    filled = padded(x, pads, float("-inf"))
    return _MAXIMA[len(kernel) - 1](filled, kernel, strides, 0, dilations)


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    """Sums over windows, divided by how many places of the window count."""
    kernel, strides, dilations, pads = _windows(a, x)
    if any(d != 1 for d in dilations):
        raise NotImplementedError("AveragePool with dilations")
    mean = _MEANS[len(kernel) - 1]
    if not any(begin or end for begin, end in pads):
        return mean(x, kernel, strides)
    places = torch.ones_like(x[:1, :1])
    if a.flag("count_include_pad"):
        own = paddings(a, x.shape[2:], kernel, strides, dilations)
        places = padded(places, own, 1.0)
        rest = [(p[0] - o[0], p[1] - o[1]) for p, o in zip(pads, own, strict=True)]
    else:
        rest = pads
    return mean(padded(x, pads), kernel, strides) / mean(padded(places, rest), kernel, strides)


def _places(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


OPERATORS: Mapping[str, Operator] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda a, x: x.mean(_places(x), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(_places(x), keepdim=True),
    "MaxPool": max_pool,
}
