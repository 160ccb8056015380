"""Steps that follow another element by element, done on its values before they are stored."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import reduce

from tvm import sym, tirx
from tvm.ir import Range, TensorLoad

from lwc.backends.tvm.schedules.statements import index, sequence
from lwc.backends.tvm.schedules.steps import Step, loads, replaced


def follows(first: Step, rest: Sequence[Step]) -> bool:
    """Whether every step after the first is elementwise and reads what came before at its own element alone."""
    inside = {first.buffer}
    for step in rest:
        if step.reduced or math.prod(step.extents) != math.prod(first.extents):
            return False
        if step.extents[-1:] != first.extents[-1:]:
            return False
        for load in loads(step.value):
            if load.source in inside and not _same_element(load, step):
                return False
        inside.add(step.buffer)
    return True


def stored(
    first: Step, rest: Sequence[Step], point: Sequence[tirx.Expr], value: tirx.Expr, outputs: Collection[tirx.Buffer]
) -> tirx.Stmt:
    """The first step's `value` at `point` taken through the others; those of `outputs` are stored.

    Requires `follows(first, rest)`.
    """
    known: dict[tirx.Buffer, tirx.Expr] = {}
    named: list[tuple[tirx.Var, tirx.Expr]] = []
    statements: list[tirx.Stmt] = []
    for step in (first, *rest):
        here = point if step.extents == first.extents else unravel(ravel(point, first.extents), step.extents)
        if step is not first:
            values = dict(zip(step.spatial, here, strict=True))
            value = replaced(step.value, values, lambda load: known.get(load.source, load))
        name = tirx.Var(step.buffer.name, value.ty)
        named.append((name, value))
        known[step.buffer] = name
        if step.buffer in outputs:
            whole = reduce(lambda body, pair: tirx.Let(*pair, body), reversed(named[:-1]), value)
            statements.append(tirx.BufferStore(step.buffer, whole, list(here)))
    return sequence(statements)


def ravel(point: Sequence[tirx.Expr], extents: Sequence[int]) -> tirx.Expr:
    """The row-major number of an element."""
    flat: tirx.Expr = index(0)
    for place, extent in zip(point, extents, strict=True):
        flat = flat * extent + place
    return flat


def unravel(flat: tirx.Expr, extents: Sequence[int]) -> list[tirx.Expr]:
    """The element of that row-major number."""
    point: list[tirx.Expr] = []
    for axis in reversed(range(len(extents))):
        outer = math.prod(extents[:axis])
        point.append(index(0) if extents[axis] == 1 else flat % extents[axis] if outer > 1 else flat)
        flat = flat // extents[axis]
    return point[::-1]


def _same_element(load: TensorLoad, step: Step) -> bool:
    shape = [int(extent) for extent in load.source.shape]
    if math.prod(shape) != math.prod(step.extents):
        return False
    if len(shape) == len(step.extents) and all(
        index.same_as(var) for index, var in zip(load.indices, step.spatial, strict=True)
    ):
        return True
    analyzer = sym.Analyzer()
    for var, extent in zip(step.spatial, step.extents, strict=True):
        analyzer.bind(var, Range(0, extent))
    return bool(analyzer.can_prove_equal(ravel(list(load.indices), shape), ravel(step.spatial, step.extents)))
