"""Operators that find entries by number: what they look in stays, what an entry consists of leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.channel_rules.walk import Axes, Axis, Walk, from_front
from lwc.compiler.analysis.units import array_of, is_constant

LOOKED_UP = "its entries are looked up by number"


def gather(node: ir.Node, walk: Walk) -> None:
    """Constant numbers that run over part of the axis in another layout are a view of it; others pin it."""
    axes, indices = walk.axes(node, 0), walk.axes(node, 1)
    place = from_front(node.attributes.get_int("axis", 0), len(axes))
    value = node.inputs[1]
    if not (value is not None and is_constant(value) and _viewed(node, walk, axes[place], array_of(value))):
        walk.pin(node, [axes[place]], LOOKED_UP)
    walk.give(node, (*axes[:place], *indices, *axes[place + 1 :]))


def _viewed(node: ir.Node, walk: Walk, axis: Axis, numbers: NDArray[Any]) -> bool:
    """Say what an axis has in common with those of the numbers, if they are a run of it, axes in any order."""
    size, indices = walk.size(axis), walk.axes(node, 1)
    run = _run(np.where(numbers < 0, numbers + size, numbers)) if axis is not None and size else None
    if axis is None or run is None:
        return False
    start, order = run
    ends = [walk.terms.atom(count) if count else None for count in (start, size - start - numbers.size)]
    part = walk.join(indices[k] for k in order)
    whole = [end for end in ends[:1] if end is not None] + [part] + [end for end in ends[1:] if end is not None]
    walk.unify(node, axis, walk.stack(whole))
    walk.numbers(node, 1, axis)
    return True


def _run(numbers: NDArray[Any]) -> tuple[int, list[int]] | None:
    """The first number and the axes from the outermost on, where every number of a run is there once."""
    if numbers.size < 2:
        return None
    start = int(numbers.reshape(-1)[0])
    origin = np.zeros(numbers.ndim, np.int64)
    steps = []
    for k, size in enumerate(numbers.shape):
        beside = origin.copy()
        beside[k] = min(1, size - 1)
        steps.append(int(numbers[tuple(beside)]) - start)
    order = sorted((k for k, size in enumerate(numbers.shape) if size > 1), key=lambda k: -steps[k])
    dense = [math.prod(numbers.shape[k] for k in order[n + 1 :]) for n in range(len(order))]
    wanted = start + np.tensordot(steps, np.indices(numbers.shape), 1)
    return (start, order) if [steps[k] for k in order] == dense and np.array_equal(numbers, wanted) else None


def gather_nd(node: ir.Node, walk: Walk) -> None:
    """Numbers [..., depth]: of the data, the axes behind the first `depth` pass."""
    data, indices = walk.axes(node, 0), walk.axes(node, 1)
    value, batch = node.inputs[1], node.attributes.get_int("batch_dims", 0)
    depth = value.shape[-1] if value is not None and value.shape is not None else None
    walk.pin(node, [*data[:batch], *indices[-1:]], LOOKED_UP)
    if isinstance(depth, int):
        walk.pin(node, data[batch : batch + depth], LOOKED_UP)
        walk.give(node, (*indices[:-1], *data[batch + depth :]))


def gather_elements(node: ir.Node, walk: Walk) -> None:
    """One number per element: along the axis they look up, along the others they are at their place."""
    data, indices = walk.axes(node, 0), walk.axes(node, 1)
    place = from_front(node.attributes.get_int("axis", 0), len(data))
    _at_their_place(node, walk, data, indices, place)
    walk.give(node, indices)


def scatter_elements(node: ir.Node, walk: Walk) -> None:
    data, *others = (walk.axes(node, k) for k in range(3))
    place = from_front(node.attributes.get_int("axis", 0), len(data))
    for axes in others:
        _at_their_place(node, walk, data, axes, place)
    walk.give(node, data)


def _at_their_place(node: ir.Node, walk: Walk, data: Axes, axes: Axes, looked_up: int) -> None:
    """Axes other than the one that numbers look up are those of the data, where they are as long."""
    for k, (axis, other) in enumerate(zip(data, axes, strict=True)):
        if k == looked_up or walk.size(axis) != walk.size(other):
            walk.pin(node, [axis, other], LOOKED_UP)
        else:
            walk.unify(node, axis, other)


def scatter_nd(node: ir.Node, walk: Walk) -> None:
    """Numbers [..., depth] say where updates [..., data axes behind the first `depth`] go."""
    data, indices, updates = (walk.axes(node, k) for k in range(3))
    value = node.inputs[1]
    depth = value.shape[-1] if value is not None and value.shape is not None else None
    walk.pin(node, indices, LOOKED_UP)
    if not isinstance(depth, int):
        return
    walk.pin(node, (*data[:depth], *updates[: len(indices) - 1]), LOOKED_UP)
    for axis, other in zip(data[depth:], updates[len(indices) - 1 :], strict=True):
        walk.unify(node, axis, other)
    walk.give(node, data)


def compress(node: ir.Node, walk: Walk) -> None:
    """Entries of an axis are kept or not at run time."""
    axes, own = walk.axes(node, 0), walk.fresh(node.outputs[0], 1)
    if "axis" in node.attributes and len(own) == len(axes):
        place = from_front(node.attributes.get_int("axis"), len(axes))
        walk.pin(node, [axes[place], own[place]], LOOKED_UP)
        walk.give(node, (*axes[:place], own[place], *axes[place + 1 :]))
