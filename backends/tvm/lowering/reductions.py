"""Largest and smallest elements, of empty tensors and booleans too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from lwc.backends.tvm.lowering.expressions import Builder, const, dims_of, dtype_of, ints_of, shape_of


def _extreme(reduce: Callable[..., relax.Expr], empty: float) -> Callable[..., relax.Expr]:
    """empty: what an empty float tensor gives."""

    def rule(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
        x = inputs[0]
        axes = _axes(inputs, attrs)
        keep = bool(attrs.get("keepdims", 1))
        if not axes:
            return x
        dims = dims_of(x)
        if 0 in dims:
            return _filled(shape_of(x), axes, keep, dtype_of(x), empty)
        if dtype_of(x) == "bool":
            return relax.op.astype(reduce(relax.op.astype(x, "int8"), axes, keep), "bool")
        if dtype_of(x).startswith("float"):
            return bb.call_te(_reduced, x, axes, keep, empty, primfunc_name_hint="max" if empty < 0 else "min")
        return reduce(x, axes, keep)

    return rule


def _reduced(x: te.Tensor, axes: list[int], keep: bool, start: float) -> te.Tensor:
    """Relax's own reduction starts from the largest finite number, and so loses infinities."""
    choose = tirx.max if start < 0 else tirx.min
    reducer = te.comm_reducer(lambda a, b: choose(a, b), lambda kind: tirx.const(start, kind), name="extreme")
    around = [te.reduce_axis((0, x.shape[axis]), f"k{axis}") for axis in axes]
    kept = [axis for axis in range(len(x.shape)) if keep or axis not in axes]

    def element(*place: tirx.Var) -> tirx.Expr:
        outer = dict(zip(kept, place, strict=True))
        inner = dict(zip(axes, around, strict=True))
        return reducer(x(*(inner.get(a, outer.get(a)) for a in range(len(x.shape)))), axis=around)

    shape = [1 if axis in axes else x.shape[axis] for axis in kept]
    return te.compute(shape, element, name="extreme")


def _axes(inputs: list[Any], attrs: dict[str, Any]) -> list[int]:
    rank = len(dims_of(inputs[0]))
    given = attrs.get("axes")
    if given is None and len(inputs) > 1 and inputs[1] is not None:
        given = ints_of(inputs[1], "the axes")
    if not given:
        return [] if attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    return [axis % rank for axis in given]


def _filled(dims: list[int], axes: list[int], keep: bool, kind: str, empty: float) -> relax.Expr:
    result = [1 if axis in axes else dim for axis, dim in enumerate(dims) if keep or axis not in axes]
    if kind == "bool":
        number: Any = empty > 0
    elif kind.startswith("float"):
        number = empty
    else:
        limits = np.iinfo(kind)
        number = limits.max if empty == math.inf else limits.min
    return const(np.full(result, number), kind)


RULES = {"ReduceMax": _extreme(relax.op.max, -math.inf), "ReduceMin": _extreme(relax.op.min, math.inf)}
