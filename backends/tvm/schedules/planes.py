"""Elementwise functions that gather few channels of a pixel from where they lie apart: planes, blocks of pixels.

Written over whole tensors their indices are divisions and remainders, a bound test around each element. Here channels
are written out, and rows and columns cut where the tests change: what is left of the indices is a multiple of x.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.sym import Analyzer

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.inline import inlined
from lwc.backends.tvm.schedules.statements import (
    WORTH_ELEMENTS,
    digits,
    index,
    parallel,
    sequence,
    serial,
    store,
    with_nest,
)
from lwc.backends.tvm.schedules.steps import Step, loads, replaced, steps

MOST_CHANNELS, MOST_ROWS = 64, 4096
Span = tuple[int, int]


def planes(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function of one elementwise block [n, h, w, c] with few channels that does not read along them."""
    func = inlined(func)
    found = steps(func)
    if found is None or len(found) != 1:
        return None
    step = found[0]
    if step.reduced or len(step.spatial) != 4 or step.extents[3] > MOST_CHANNELS or max(step.extents) > MOST_ROWS:
        return None
    if not _gathers(step) or any(str(variable.ty.dtype) != "int64" for variable in step.spatial):
        return None
    _, rows, columns, _ = (_spans(step, axis) for axis in range(4))
    worth = math.prod(step.extents) >= WORTH_ELEMENTS
    return with_nest(func, sequence([_rows(step, span, columns, worth=worth) for span in rows]), [])


def _gathers(step: Step) -> bool:
    """Whether divisions pick a place of which the channel is a part."""
    found = loads(step.value)
    places = [place for load in found for place in load.indices]
    return any(not isinstance(place, (tirx.Var, tirx.IntImm)) for place in places) and any(
        len(load.indices) > 1 and not _along(load.indices[-1], step.spatial[3]) for load in found
    )


def _along(place: Any, variable: tirx.Var) -> bool:
    """Whether an index is the variable itself, or a number."""
    return isinstance(place, tirx.IntImm) or place.same_as(variable)


def _spans(step: Step, axis: int) -> list[Span]:
    """An axis cut where a bound test of the value changes."""
    variable, extent = step.spatial[axis], step.extents[axis]
    tests = [test for test in _tests(step.value) if _only(test, variable)]
    analyzer = Analyzer()
    answers = [
        tuple(_known(analyzer.simplify(replaced(test, {variable: index(place)}))) for test in tests)
        for place in (range(extent) if tests else ())
    ]
    cuts = [0, *(place for place in range(1, len(answers)) if answers[place] != answers[place - 1]), extent]
    return list(itertools.pairwise(cuts))


def _tests(value: tirx.Expr) -> Iterator[tirx.Expr]:
    """Comparisons that decide which of two values an element has, from the outermost inwards."""
    while _is_choice(value):
        waiting = [value.args[0]]
        while waiting:
            test = waiting.pop()
            if isinstance(test, tirx.And):
                waiting += [test.a, test.b]
            else:
                yield test
        value = value.args[1]


def _is_choice(value: Any) -> bool:
    return getattr(getattr(value, "op", None), "name", "") == "prim.if_then_else"


def _only(test: tirx.Expr, variable: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(test, [(tirx.Var, found.append)])
    return bool(found) and all(each.same_as(variable) for each in found)


def _rows(step: Step, span: Span, columns: Sequence[Span], *, worth: bool) -> tirx.Stmt:
    batch, count = step.extents[0], span[1] - span[0]

    def row(number: Any) -> tirx.Stmt:
        n, y = digits(number, [batch, count])
        return sequence([_pixels(step, [n, y], span, each) for each in columns])

    return parallel(batch * count, row, worth=worth)


def _pixels(step: Step, at: Sequence[Any], rows: Span, columns: Span) -> tirx.Stmt:
    """Pixels of a row from one column to another."""
    n, y, x = (tirx.Var(name, "int64") for name in "nyx")
    analyzer = Analyzer()
    extents = (step.extents[0], rows[1] - rows[0], columns[1] - columns[0])
    for variable, extent in zip((n, y, x), extents, strict=True):
        analyzer.bind(variable, Range(index(0), index(extent)))

    def pixel(column: Any) -> tirx.Stmt:
        stores = []
        for c in range(step.extents[3]):
            place = (n, y + rows[0], x + columns[0], index(c))
            value = _simple(step.at(place), analyzer)
            here = {n: _expr(at[0]), y: _expr(at[1]), x: _expr(column)}
            stores.append(store(step.buffer, [replaced(each, here) for each in place], replaced(value, here)))
        return sequence(stores)

    return serial(extents[2], pixel)


def _simple(value: tirx.Expr, analyzer: Analyzer) -> tirx.Expr:
    """The value without tests that are decided, and with simple indices; floats stay as they are written."""
    while _is_choice(value):
        answer = _known(analyzer.simplify(value.args[0]))
        if answer is None:
            break
        value = value.args[1 if answer else 2]
    return replaced(value, {}, lambda load: load.source[tuple(analyzer.simplify(place) for place in load.indices)])


def _known(test: Any) -> bool | None:
    return bool(int(test)) if isinstance(test, tirx.IntImm) else None


def _expr(value: Any) -> tirx.Expr:
    return index(value) if isinstance(value, int) else value
