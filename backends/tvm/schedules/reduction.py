"""Reductions along rows and what uses them there: softmax, normalizations, means, dot products; one rule for all.

A row's steps run one after the other while it lies in the cache, its reductions in vectors of partial results; rows
are spread over the cores. Results of a row that no other function needs never leave it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import TensorLoad

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.inline import inlined
from lwc.backends.tvm.schedules.pointwise import ravel, unravel
from lwc.backends.tvm.schedules.statements import (
    WORTH_ELEMENTS,
    index,
    parallel,
    sequence,
    serial,
    vector,
    vectors,
    with_nest,
)
from lwc.backends.tvm.schedules.steps import Step, loads, replaced, steps, uses

# Vectors of partial results: as many as hide an addition's latency.
PARTIAL = 4
PARTIALS = (1, 2, 4, 8, 16)


def reduction(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Steps over the same rows, at least one of them a reduction of whole rows."""
    given, func = func, inlined(func)
    found = steps(func)
    if not found or not any(step.reduced for step in found):
        return None
    rows = shared_rows(found)
    if rows is None:
        return None
    outputs = set(func.params)
    own = {
        step.buffer: tirx.decl_buffer(
            (math.prod(step.extents[len(rows) :]),), step.buffer.dtype, step.buffer.name, scope="local"
        )
        for step in found
        if step.buffer not in outputs
    }
    worth = max(math.prod((*step.extents, *step.lengths)) for step in found) >= WORTH_ELEMENTS
    partial = _partial(given, found, machine) if worth else PARTIAL
    nests = Rows(found, len(rows), machine.lanes, own, partial)
    body = parallel(math.prod(rows), lambda task: nests.at(unravel(task, rows)), worth=worth)
    return with_nest(func, body, [*own.values(), *nests.partial])


@dataclass(frozen=True)
class Partial:
    """How many vectors of partial results a reduction has."""

    vectors: int


def _partial(func: tirx.PrimFunc, found: Sequence[Step], machine: Machine) -> int:
    """The number measured fastest; no more than a row has vectors."""
    longest = max(step.lengths[-1] for step in found if step.reduced)
    fitting = [Partial(count) for count in PARTIALS if count * machine.lanes <= longest]
    if len(fitting) < 2:
        return PARTIAL
    usual = PARTIAL if Partial(PARTIAL) in fitting else 1
    return machine.tuned.best(Fused.of(func), fitting, lambda partial: abs(partial.vectors - usual)).vectors


def shared_rows(found: Sequence[Step]) -> tuple[int, ...] | None:
    """Extents that all steps share: those of what the first reduction leaves, but for trailing ones of extent 1.

    None where a step reads another row, or a reduction does not read neighbours.
    """
    rows = list(next(step.extents for step in found if step.reduced))
    while rows and rows[-1] == 1:
        rows.pop()
    return tuple(rows) if same_rows(found, tuple(rows)) else None


def same_rows(found: Sequence[Step], rows: tuple[int, ...]) -> bool:
    """Whether every step works on rows of these extents, each on its own."""
    for step in found:
        if step.extents[: len(rows)] != rows or (step.reduced and math.prod(step.extents) != math.prod(rows)):
            return False
    inside = {step.buffer for step in found}
    for step in found:
        if any(load.source in inside and not same_row(load, step, len(rows)) for load in loads(step.value)):
            return False
        if step.reduced and not all(_along(load, step) for load in loads(step.value)):
            return False
    return True


def same_row(load: TensorLoad, step: Step, depth: int) -> bool:
    """Whether a step reads an element of its own row, the buffer's first `depth` indices."""
    return all(
        index.same_as(var) or extent == 1
        for index, var, extent in zip(list(load.indices)[:depth], step.spatial, step.extents[:depth], strict=False)
    )


def _along(load: TensorLoad, step: Step) -> bool:
    """Whether a reduction reads neighbours one after the other, or the same element each time."""
    last = step.reduced[-1]
    return not load.indices or load.indices[-1].same_as(last) or not any(uses(index, last) for index in load.indices)


class Rows:
    """What is done for one row.

    depth: how many leading axes say which;  own: buffers that hold one row in place of all, by the one that held all
    vectors: of a reduction's partial results;  partial: the buffers that hold them
    """

    def __init__(
        self, found: Sequence[Step], depth: int, lanes: int, own: Mapping[tirx.Buffer, tirx.Buffer],
        vectors: int = PARTIAL,
    ) -> None:  # fmt: skip
        self.steps, self.depth, self.lanes, self.own, self.vectors = found, depth, lanes, own, vectors
        self.partial: list[tirx.Buffer] = []
        # What divides every element of a row divides 1 instead, once.
        self.totals = {step.buffer for step in found if step.reduced and str(step.buffer.dtype) == "float32"}

    def at(self, row: list[tirx.Expr]) -> tirx.Stmt:
        """Every step for this row."""
        written = [self._reduced(step, row) if step.reduced else self._each(step, row) for step in self.steps]
        return sequence(written)

    def _each(self, step: Step, row: list[tirx.Expr], outer: Sequence[tirx.Expr] = ()) -> tirx.Stmt:
        """Every element of the step's row."""
        wide = step.extents[self.depth :]
        if math.prod(wide) == 1:
            return self._store(step, self._first(step, row), self._value(step, self._first(step, row)))
        if len(outer) < len(wide) - 1:
            return serial(wide[len(outer)], lambda var: self._each(step, row, [*outer, var]))

        def element(last: tirx.Expr, _: tirx.Expr) -> tirx.Stmt:
            point = [*row, *outer, last]
            return self._store(step, point, self._value(step, point))

        return vectors(wide[-1], self.lanes, element)

    def _reduced(self, step: Step, row: list[tirx.Expr]) -> tirx.Stmt:
        """The step's one result for this row."""
        length = step.lengths[-1]
        count = self.vectors if length >= self.vectors * self.lanes else 1
        partial = tirx.decl_buffer((count * self.lanes,), step.buffer.dtype, "partial", scope="local")
        self.partial.append(partial)
        point = self._first(step, row)

        def taken(along: Sequence[tirx.Expr], slot: tirx.Expr) -> tirx.Stmt:
            found = tirx.BufferLoad(partial, [slot])
            return tirx.BufferStore(partial, step.combined(found, self._value(step, point, along)), [slot])

        def along(outer: Sequence[tirx.Expr]) -> tirx.Stmt:
            if len(outer) < len(step.lengths) - 1:
                return serial(step.lengths[len(outer)], lambda var: along([*outer, var]))
            return vectors(length, self.lanes, lambda last, slot: taken([*outer, last], slot), together=count)

        width = count * self.lanes
        clear = vectors(width, self.lanes, lambda at, _: tirx.BufferStore(partial, step.initial, [at]), together=count)
        result = tirx.BufferLoad(partial, [index(0)])
        return sequence([clear, along([]), *_halved(step, partial, width), self._store(step, point, result)])

    def _value(self, step: Step, point: Sequence[tirx.Expr], along: Sequence[tirx.Expr] = ()) -> tirx.Expr:
        value = step.at(point, along)
        if isinstance(value, tirx.Div) and isinstance(value.b, TensorLoad) and value.b.source in self.totals:
            value = value.a * (1.0 / value.b)
        return replaced(value, {}, self._load)

    def _first(self, step: Step, row: Sequence[tirx.Expr]) -> list[tirx.Expr]:
        return [*row, *(index(0) for _ in step.extents[self.depth :])]

    def _load(self, load: TensorLoad) -> tirx.Expr:
        own = self.own.get(load.source)
        return load if own is None else tirx.BufferLoad(own, [self._place(load.source, list(load.indices))])

    def _store(self, step: Step, point: Sequence[tirx.Expr], value: tirx.Expr) -> tirx.Stmt:
        own = self.own.get(step.buffer)
        if own is None:
            return tirx.BufferStore(step.buffer, value, list(point))
        return tirx.BufferStore(own, value, [self._place(step.buffer, point)])

    def _place(self, buffer: tirx.Buffer, point: Sequence[tirx.Expr]) -> tirx.Expr:
        """Where an element lies within its row."""
        return ravel(point[self.depth :], [int(extent) for extent in buffer.shape][self.depth :])


def _halved(step: Step, partial: tirx.Buffer, width: int) -> list[tirx.Stmt]:
    """Partial results combined pair by pair till the first is the whole one."""

    def pair(half: int) -> tirx.Stmt:
        def body(lane: tirx.Expr) -> tirx.Stmt:
            low, high = tirx.BufferLoad(partial, [lane]), tirx.BufferLoad(partial, [lane + half])
            return tirx.BufferStore(partial, step.combined(low, high), [lane])

        return vector(half, body)

    halves = []
    while width > 1:
        width //= 2
        halves.append(pair(width))
    return halves
