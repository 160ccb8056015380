"""Operators that stack axes, cut them into pieces, or pick from them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.elementwise import broadcast
from lwc.compiler.analysis.channel_rules.walk import Axis, Walk, from_front, integers, present

PICKED = "single channels are picked from it"


def concat(node: ir.Node, walk: Walk) -> None:
    inputs = [walk.axes(node, index) for index in present(node)]
    place = from_front(node.attributes.get_int("axis", 1), len(inputs[0]))
    stacked = walk.stack(axes[place] for axes in inputs)
    if stacked == walk.unknown:
        walk.pin(node, (axes[place] for axes in inputs), "it is stacked with a size that is not static")
    others = broadcast(walk, node, [(*axes[:place], None, *axes[place + 1 :]) for axes in inputs])
    walk.give(node, (*others[:place], stacked, *others[place + 1 :]))


def split(node: ir.Node, walk: Walk) -> None:
    axes = walk.axes(node, 0)
    place = from_front(node.attributes.get_int("axis", 0), len(axes))
    sizes, axis, count = integers(node, "split", 1), axes[place], len(node.outputs)
    if sizes == [] and walk.known(axis):
        each = -(-walk.size(axis) // count)
        sizes = [min(each, walk.size(axis) - k * each) for k in range(count)]
    if not sizes or not walk.known(axis) or axis is None or min(sizes) < 1:
        walk.pin(node, [axis], "it is cut at run time")
        for k, output in enumerate(node.outputs):
            own = walk.fresh(output, len(axes))
            walk.pin(node, own[place : place + 1], "it is cut at run time")
            walk.give(node, (*axes[:place], own[place], *axes[place + 1 :]), k)
        return
    parts = [walk.terms.atom(size) for size in sizes]
    walk.unify(node, axis, walk.stack(parts))
    where = "split" if "split" in node.attributes else 1
    for k, part in enumerate(parts):
        walk.follows(node, where, [part], k, count)
        walk.give(node, (*axes[:place], part if sizes[k] > 1 else None, *axes[place + 1 :]), k)


def slice_(node: ir.Node, walk: Walk) -> None:
    """A run of an axis is one part of a sum; every k-th of an axis is the outer factor of a product with k."""
    axes, made = walk.axes(node, 0), list(walk.axes(node, 0))
    old = "starts" in node.attributes
    starts, ends, places = (integers(node, name, k) for k, name in enumerate(("starts", "ends", "axes"), 1))
    steps = integers(node, "steps", 4)
    if not places:
        known = starts if starts is not None else ends
        places = None if places is None or known is None else list(range(len(known)))
    if places is None:
        return
    own = walk.fresh(node.outputs[0], len(axes))
    for k, place in enumerate(from_front(place, len(axes)) for place in places):
        if starts is None or ends is None or steps is None or not walk.known(axes[place]):
            walk.pin(node, [axes[place], own[place]], "it is cut at run time")
            made[place] = own[place]
            continue
        where: tuple[int | str, int | str] = ("starts", "ends") if old else (1, 2)
        run = _Run(starts[k], ends[k], steps[k] if steps else 1, k, len(places), where)
        made[place] = _cut(node, walk, axes[place], own[place], run)
    walk.give(node, made)


@dataclass(frozen=True)
class _Run:
    """What a Slice takes of one axis. element, length: of the vectors that say so;  where: these are"""

    start: int
    end: int
    step: int
    element: int
    length: int
    where: tuple[int | str, int | str]


def _cut(node: ir.Node, walk: Walk, axis: Axis, own: Axis, run: _Run) -> Axis:
    """The axis that is left of one."""
    size = walk.size(axis)
    start, end = (min(max(k + size if k < 0 else k, 0), size) for k in (run.start, run.end))
    if axis is None or (start, end, run.step) == (0, size, 1):
        return axis
    if run.step == 1 and start < end:
        before, kept, after = (walk.terms.atom(n) if n else None for n in (start, end - start, size - end))
        walk.unify(node, axis, walk.stack(part for part in (before, kept, after) if part is not None))
        walk.follows(node, run.where[0], [before], run.element, run.length)
        walk.follows(node, run.where[1], [before, kept], run.element, run.length)
        return kept if end - start > 1 else None
    if run.step > 1 and size % run.step == 0 and start < run.step and end > size - run.step + start:
        outer, steps = walk.atom(size // run.step), walk.atom(run.step)
        walk.pin(node, [steps], "it counts steps")
        walk.unify(node, axis, walk.join([outer, steps]))
        walk.follows(node, run.where[0], [], run.element, run.length)
        walk.follows(node, run.where[1], [axis], run.element, run.length)
        return outer
    walk.pin(node, [axis, own], PICKED)
    return own


def pad(node: ir.Node, walk: Walk) -> None:
    """What is added by a constant is a part of its own, and stays."""
    axes = walk.axes(node, 0)
    pads, places = integers(node, "pads", 1), integers(node, "axes", 3)
    mode = node.attributes.get_string("mode", "constant")
    own = walk.fresh(node.outputs[0], len(axes))
    if pads is None or places is None:
        walk.pin(node, (*axes, *own), "it is padded by what is known at run time")
        walk.give(node, own)
        return
    made: list[Axis] = list(axes)
    places = [from_front(k, len(axes)) for k in places] or list(range(len(axes)))
    for k, place in enumerate(places):
        added = (pads[k], pads[k + len(places)])
        if added == (0, 0):
            continue
        if mode != "constant" or min(added) < 0 or not walk.known(axes[place]):
            walk.pin(node, [axes[place], own[place]], "it is padded by what is in it")
            made[place] = own[place]
            continue
        ends = [walk.terms.atom(count) if count else None for count in added]
        walk.pin(node, ends, "it is padding")
        parts = ([ends[0]] if added[0] else []) + [axes[place]] + ([ends[1]] if added[1] else [])
        made[place] = walk.stack(parts)
    walk.give(node, made)
