"""Resize, axis by axis: each new place is a weighted sum of old ones, with weights that depend on sizes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]

_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}


def resize(
    a: Attributes, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Without antialiasing and cropping."""
    mode = a.text("mode", "nearest")
    if a.flag("antialias") or a.text("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotImplementedError("Resize with antialias or tf_crop_and_resize")
    axes = [axis % x.ndim for axis in a.ints("axes", range(x.ndim)) or []]
    given = [] if scales is None else scales.tolist()
    if sizes is not None:
        given, lengths = _fitted(a, [x.shape[axis] for axis in axes], sizes.tolist())
    else:
        lengths = [int(x.shape[axis] * scale) for axis, scale in zip(axes, given, strict=True)]
    for axis, scale, length in zip(axes, given, lengths, strict=True):
        if (scale, length) != (1.0, x.shape[axis]):
            x = _resized(a, x, axis, scale, length, mode)
    return x


def _fitted(a: Attributes, old: list[int], new: list[int]) -> tuple[list[float], list[int]]:
    """Scales and sizes, all scales alike where the policy keeps the aspect ratio."""
    scales = [n / o for n, o in zip(new, old, strict=True)]
    policy = a.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales, new
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(old), [int(scale * o + 0.5) for o in old]


def _resized(a: Attributes, x: Tensor, axis: int, scale: float, length: int, mode: str) -> Tensor:
    size = x.shape[axis]
    places = _old_places(a.text("coordinate_transformation_mode", "half_pixel"), size, scale, length)
    if mode == "nearest":
        return x.index_select(axis, _nearest(places, a.text("nearest_mode", "round_prefer_floor")).clamp(0, size - 1))
    first, weights = _linear(places) if mode == "linear" else _cubic(places, a.number("cubic_coeff_a", -0.75))
    taps = first[:, None] + torch.arange(_TAPS[mode])
    if a.flag("exclude_outside"):
        weights = weights * ((taps >= 0) & (taps < size))
        weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(length, size, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, size - 1), weights)
    return (x.movedim(axis, -1) @ matrix.T.to(x.dtype)).movedim(-1, axis)


def _old_places(mode: str, size: int, scale: float, length: int) -> Tensor:
    """Where each new place lies on the old axis."""
    new = torch.arange(length, dtype=torch.float64)
    if mode == "asymmetric":
        return new / scale
    if mode == "align_corners":
        return new * (size - 1) / max(1, length - 1)
    if mode == "pytorch_half_pixel" and length == 1:
        return torch.zeros(1, dtype=torch.float64)
    shift = 0.0
    if mode == "half_pixel_symmetric":
        shift = size / 2 * (1 - length / (scale * size))
    return shift + (new + 0.5) / scale - 0.5


def _nearest(places: Tensor, mode: str) -> Tensor:
    rounded = {
        "floor": torch.floor(places),
        "ceil": torch.ceil(places),
        "round_prefer_floor": torch.ceil(places - 0.5),
        "round_prefer_ceil": torch.floor(places + 0.5),
    }
    return rounded[mode].long()


def _linear(places: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.floor(places)
    part = places - first
    return first.long(), torch.stack([1 - part, part], 1)


def _cubic(places: Tensor, a: float) -> tuple[Tensor, Tensor]:
    """Weights of Keys 1981 with the coefficient a."""
    first = torch.floor(places)
    part = places - first
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (part, 1 - part)]
    far = [((d - 5) * d + 8) * d * a - 4 * a for d in (1 + part, 2 - part)]
    return first.long() - 1, torch.stack([far[0], near[0], near[1], far[1]], 1)


OPERATORS: Mapping[str, Operator] = {"Resize": resize}
