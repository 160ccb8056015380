"""Normalizations, computed from running or own statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]


def _along_channels(x: Tensor, values: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 2))


def batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """As it is used after training: with the statistics that were kept."""
    factor = scale * torch.rsqrt(var + a.number("epsilon", 1e-5))
    return (x - _along_channels(x, mean)) * _along_channels(x, factor) + _along_channels(x, bias)


def layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
    shape = x.shape[a.integer("axis", -1) % x.ndim :]
    axes = list(range(x.ndim - len(shape), x.ndim))
    epsilon = a.number("epsilon", 1e-5)
    if a.outputs == 1 and scale.shape == shape:
        return F.layer_norm(x, shape, scale, bias, epsilon)
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


def rms_norm(a: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(a.integer("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + a.number("epsilon", 1e-5)) * scale


def skip_layer_norm(
    a: Attributes, x: Tensor, skip: Tensor, scale: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, scale.shape, scale, beta, a.number("epsilon", 1e-12))
    return y, total, total, total


def instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=a.number("epsilon", 1e-5))


def group_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias had one number per group."""
    groups, channels = a.integer("num_groups"), x.shape[1]
    if scale.numel() != channels:
        scale, bias = (v.repeat_interleave(channels // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, a.number("epsilon", 1e-5))


def local_response_norm(a: Attributes, x: Tensor) -> Tensor:
    """x / (bias + alpha / size * sum of squares of the `size` channels around)^beta"""
    size = a.integer("size")
    before = (size - 1) // 2
    squares = F.pad(x.square().movedim(1, -1), [before, size - 1 - before])
    sums = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (a.number("bias", 1.0) + a.number("alpha", 1e-4) / size * sums) ** a.number("beta", 0.75)


def lp_norm(a: Attributes, x: Tensor) -> Tensor:
    axis = a.integer("axis", -1)
    return x / torch.linalg.vector_norm(x, a.integer("p", 2), axis, keepdim=True)


OPERATORS: Mapping[str, Operator] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": lp_norm,
    "RMSNormalization": rms_norm,
    "SimplifiedLayerNormalization": rms_norm,
    "SkipLayerNormalization": skip_layer_norm,
}
