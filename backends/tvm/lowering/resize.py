"""Resize, exactly as ONNX says: each axis by a few taps whose places and weights are constants.

Two-dimensional cases that TVM's own operator gets right are given to it: it may change their layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Array, Builder, const, constant_array, dtype_of, shape_of, text_of

ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
TVM_COORDINATES = ("half_pixel", "align_corners", "asymmetric")


@dataclass(frozen=True)
class Axis:
    """One resized axis. scale: output size / input size as given, which need not divide evenly;  roi: start, end"""

    size: int
    made: int
    scale: float
    roi: tuple[float, float]

    def places(self, mode: str) -> Array:
        """Where in the input each output element lies (ONNX Resize, coordinate_transformation_mode)."""
        x = np.arange(self.made, dtype=np.float32)  # as ONNX Runtime rounds, which decides ties
        length, scale = self.scale * self.size, np.float32(self.scale)
        if mode == "align_corners":
            return x * np.float32(self.size - 1) / np.float32(self.made - 1) if self.made != 1 else np.zeros_like(x)
        if mode == "asymmetric":
            return x / scale
        if mode == "pytorch_half_pixel":
            return (x + np.float32(0.5)) / scale - np.float32(0.5) if length > 1 else np.full_like(x, -0.5)
        if mode == "half_pixel_symmetric":
            adjustment = self.made / length
            centre = self.size / 2
            return centre * (1 - adjustment) + (x + np.float32(0.5)) / scale - np.float32(0.5)
        if mode == "tf_crop_and_resize":
            start, end = self.roi
            if length <= 1:
                return np.full_like(x, 0.5 * (start + end) * (self.size - 1))
            return start * (self.size - 1) + x * (end - start) * (self.size - 1) / (length - 1)
        return (x + np.float32(0.5)) / scale - np.float32(0.5)


def resize(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Resize and Upsample of static shapes, sizes or scales constant."""
    x = inputs[0]
    axes = _axes(inputs, attrs, shape_of(x))
    if not axes:
        return x
    if _for_tvm(x, axes, attrs):
        return _by_tvm(x, axes, attrs)
    kind = dtype_of(x)
    mode, coordinates = text_of(attrs, "mode", "nearest"), text_of(
        attrs, "coordinate_transformation_mode", "half_pixel"
    )
    value = x if mode == "nearest" or kind == "float32" else bb.emit(relax.op.astype(x, "float32"))
    outside: dict[int, Array] = {}
    for number, axis in axes.items():
        places = axis.places(coordinates)
        indices, weights = _taps(axis, places, attrs)
        value = _gathered(bb, value, number, indices, weights if mode != "nearest" else None)
        if coordinates == "tf_crop_and_resize":
            outside[number] = (places < 0) | (places > axis.size - 1)
    value = _extrapolated(bb, value, outside, attrs.get("extrapolation_value", 0.0))
    return value if dtype_of(bb.normalize(value)) == kind else relax.op.astype(_rounded(value, kind), kind)


def _rounded(value: relax.Expr, kind: str) -> relax.Expr:
    if kind.startswith("float") or kind == "bfloat16":
        return value
    limits = np.iinfo(kind)
    return relax.op.clip(value, int(limits.min), int(limits.max))


def _axes(inputs: list[Any], attrs: dict[str, Any], dims: list[int]) -> dict[int, Axis]:
    """The axes that change, by number."""
    _, roi, scales, sizes = [*inputs, None, None, None][:4]
    chosen = [axis % len(dims) for axis in attrs.get("axes", range(len(dims)))]
    given = None if scales is None else constant_array(scales, "the scales").reshape(-1)
    if given is not None and given.size:
        factors = [float(factor) for factor in given]
        made = [math.floor(dims[axis] * np.float32(f)) for axis, f in zip(chosen, factors, strict=True)]
    else:
        made = [int(size) for size in constant_array(sizes, "the sizes").reshape(-1)]
        made, factors = _kept_ratio([dims[axis] for axis in chosen], made, attrs)
    where = np.zeros(0) if roi is None else np.asarray(constant_array(roi, "the region"), np.float64).reshape(-1)
    box = where.reshape(2, -1) if where.size else np.stack([np.zeros(len(chosen)), np.ones(len(chosen))])
    found = {}
    for k, axis in enumerate(chosen):
        region = (float(box[0, k]), float(box[1, k]))
        crops = text_of(attrs, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        if made[k] != dims[axis] or factors[k] != 1.0 or (crops and region != (0.0, 1.0)):
            found[axis] = Axis(dims[axis], made[k], factors[k], region)
    return found


def _kept_ratio(dims: list[int], made: list[int], attrs: dict[str, Any]) -> tuple[list[int], list[float]]:
    policy = text_of(attrs, "keep_aspect_ratio_policy", "stretch")
    factors = [size / dim for size, dim in zip(made, dims, strict=True)]
    if policy == "stretch":
        return made, factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(factor * dim + 0.5) for dim in dims], [factor] * len(dims)


def _taps(axis: Axis, places: Array, attrs: dict[str, Any]) -> tuple[Array, Array]:
    """Of each output element the input elements it is made of, and their weights; both [made, taps]."""
    mode = text_of(attrs, "mode", "nearest")
    if mode == "nearest":
        rounded = ROUNDINGS[text_of(attrs, "nearest_mode", "round_prefer_floor")](places)
        return np.clip(rounded, 0, axis.size - 1)[:, None], np.ones((len(places), 1))
    stretch = 1 / axis.scale if attrs.get("antialias", 0) and axis.scale < 1 else 1.0
    reach = TAPS[mode] / 2 * stretch
    count = 2 * math.ceil(reach)
    indices = np.floor(places)[:, None] - (count // 2 - 1) + np.arange(count)
    distance = (indices - places[:, None]) / stretch
    kernel = _triangle(distance) if mode == "linear" else _cubic(distance, attrs.get("cubic_coeff_a", -0.75))
    inside = (indices >= 0) & (indices <= axis.size - 1)
    if attrs.get("exclude_outside", 0):
        kernel = kernel * inside
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    return np.clip(indices, 0, axis.size - 1), kernel


def _triangle(x: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _cubic(x: Array, a: float) -> Array:
    """Keys' kernel (Keys 1981, eq. 15, with a free)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _gathered(bb: Builder, x: relax.Expr, axis: int, indices: Array, weights: Array | None) -> relax.Expr:
    """The sum of the taps, each the tensor gathered along the axis and weighted."""
    rank = len(shape_of(x))
    total = None
    for k in range(indices.shape[1]):
        taken = relax.op.take(x, const(indices[:, k], "int64"), axis=axis)
        if weights is not None:
            spread = weights[:, k].reshape([-1 if a == axis else 1 for a in range(rank)])
            taken = relax.op.multiply(taken, const(spread, "float32"))
        total = taken if total is None else relax.op.add(total, taken)
    return bb.emit(total)


def _extrapolated(bb: Builder, x: relax.Expr, outside: Mapping[int, Array], value: float) -> relax.Expr:
    for axis, flags in outside.items():
        if flags.any():
            spread = flags.reshape([-1 if a == axis else 1 for a in range(len(shape_of(x)))])
            x = bb.emit(relax.op.where(const(spread, "bool"), relax.const(value, dtype_of(x)), x))
    return x


def _for_tvm(x: relax.Expr, axes: Mapping[int, Axis], attrs: dict[str, Any]) -> bool:
    plain = not attrs.get("antialias", 0) and not attrs.get("exclude_outside", 0)
    exact = all(axis.made == axis.scale * axis.size and axis.scale >= 1 for axis in axes.values())
    known = text_of(attrs, "coordinate_transformation_mode", "half_pixel") in TVM_COORDINATES
    images = len(shape_of(x)) == 4 and set(axes) <= {2, 3} and dtype_of(x) == "float32"
    return plain and exact and known and images and text_of(attrs, "mode", "nearest") in ("nearest", "linear")


def _by_tvm(x: relax.Expr, axes: Mapping[int, Axis], attrs: dict[str, Any]) -> relax.Expr:
    dims = shape_of(x)
    mode = text_of(attrs, "mode", "nearest")
    return relax.op.image.resize2d(
        x,
        size=relax.ShapeExpr([axes[axis].made if axis in axes else dims[axis] for axis in (2, 3)]),
        roi=[0.0] * 4,
        layout="NCHW",
        method="nearest_neighbor" if mode == "nearest" else mode,
        coordinate_transformation_mode=text_of(attrs, "coordinate_transformation_mode", "half_pixel"),
        rounding_method=text_of(attrs, "nearest_mode", "round_prefer_floor"),
    )


RULES = {"Resize": resize}
