"""LSTM, GRU and RNN as a loop over time around the product of the state with R, gates computed from registers.

R is packed into blocks of UNITS neighbouring units with all their gates, so that the sums a unit needs are in registers
together. Where directions or parts of the batch keep the cores busy, each walks through time on its own; else the
blocks of each step are spread over them, where that is worth waking them.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.recurrence import UNITS, Plan, Recurrence
from lwc.backends.tvm.schedules.recurrent_cells import CELLS, Phase, phases
from lwc.backends.tvm.schedules.recurrent_codes import quantize
from lwc.backends.tvm.schedules.recurrent_units import CODES, Buffers, Unit
from lwc.backends.tvm.schedules.statements import (
    index,
    parallel,
    sequence,
    serial,
    vector,
    vectors,
    with_nest,
    worth_threads,
)

RECURRENCE = "lwc.recurrence"
OPAQUE = 8


def recurrent(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """The loop written for this machine."""
    text = (func.attrs or {}).get(RECURRENCE)
    if text is None:
        return None
    loop = Recurrence.parse(str(text))
    return kernel(loop, Plan.of(loop, machine)).with_attr("global_symbol", "main")


def kernel(loop: Recurrence, plan: Plan) -> tirx.PrimFunc:
    """Takes `loop.arguments()`, then `loop.results()`."""
    writer = _Writer(loop, plan)
    buffers = writer.buffers
    empty = tirx.PrimFunc(list(buffers.outer.values()), tirx.Evaluate(0))
    inner = [*buffers.inner.values(), buffers.sums, *([buffers.bounds] if loop.quantized else [])]
    attrs = {"tirx.noalias": True, "op_pattern": OPAQUE, RECURRENCE: loop.text()}
    return with_nest(empty, writer.whole(), inner).with_attrs(attrs)


class _Writer:
    def __init__(self, loop: Recurrence, plan: Plan) -> None:
        self.loop, self.plan = loop, plan
        self.buffers = Buffers(loop, plan.rows * plan.wide)
        self.phases = phases(loop.cell, loop.linear_before_reset)

    def whole(self) -> tirx.Stmt:
        """All steps of all directions."""
        return self._together() if self.plan.spread else self._apart()

    def _apart(self) -> tirx.Stmt:
        """Each direction, and each part of the batch, walks on its own."""
        loop, parts = self.loop, self.plan.parts
        count = loop.batch // parts

        def walk(task: Any) -> tirx.Stmt:
            way, first = task // parts, task % parts * count
            steps = serial(loop.steps, lambda step: sequence([
                *self._codes(way, step), *(self._groups(phase, way, step, first, count) for phase in self.phases)
            ]))  # fmt: skip
            return sequence([self._start(way, first, count), steps, self._end(way, first, count)])

        return parallel(loop.directions * parts, walk, worth=worth_threads(loop.steps * loop.work))

    def _together(self) -> tirx.Stmt:
        """Blocks of all directions in parallel, one phase of a step after the other."""
        loop = self.loop
        ways = [index(way) for way in range(loop.directions)]
        first, groups = index(0), loop.blocks // self.plan.wide

        def spread(phase: Phase, step: Any) -> tirx.Stmt:
            return parallel(loop.directions * groups, lambda task: self._rows(
                phase, task // groups, step, task % groups * self.plan.wide, first, loop.batch
            ))  # fmt: skip

        steps = serial(loop.steps, lambda step: sequence([
            *(statement for way in ways for statement in self._codes(way, step)),
            *(spread(phase, step) for phase in self.phases),
        ]))  # fmt: skip
        return sequence([
            *(self._start(way, first, loop.batch) for way in ways), steps,
            *(self._end(way, first, loop.batch) for way in ways),
        ])  # fmt: skip

    def _start(self, way: Any, first: Any, count: int) -> tirx.Stmt:
        """States as given, zeros behind them."""
        units, zero, begin = self.loop.blocks * UNITS, tirx.const(0, self.loop.dtype), index(0)

        def clear(name: str, row: Any) -> tirx.Stmt:
            return vectors(units, UNITS, lambda unit, _: self.buffers.store(name, begin, way, row, unit, zero))

        def copy(name: str, row: Any) -> tirx.Stmt:
            given = self.buffers.outer[f"first_{name}"]
            return vectors(self.loop.hidden, UNITS, lambda unit, _: self.buffers.store(
                name, begin, way, row, unit, given[way, row, unit]
            ))  # fmt: skip

        return serial(count, lambda row: sequence([
            write(name, first + row) for name in CELLS[self.loop.cell].kept for write in (clear, copy)
        ]))  # fmt: skip

    def _end(self, way: Any, first: Any, count: int) -> tirx.Stmt:
        """The last states as results."""
        end = index(self.loop.steps)

        def copy(name: str, row: Any) -> tirx.Stmt:
            return vectors(self.loop.hidden, UNITS, lambda unit, _: tirx.BufferStore(
                self.buffers.outer[f"last_{name}"], self.buffers.load(name, end, way, row, unit), [way, row, unit]
            ))  # fmt: skip

        return serial(count, lambda row: sequence([
            copy(name, first + row) for name in CELLS[self.loop.cell].kept
        ]))  # fmt: skip

    def _codes(self, way: Any, step: Any) -> list[tirx.Stmt]:
        return [quantize(self.loop, self.buffers, way, step)] if self.loop.quantized else []

    def _groups(self, phase: Phase, way: Any, step: Any, first: Any, count: int) -> tirx.Stmt:
        """All blocks of some rows."""
        wide = self.plan.wide
        return serial(self.loop.blocks // wide, lambda group: self._rows(
            phase, way, step, group * wide, first, count
        ))  # fmt: skip

    def _rows(self, phase: Phase, way: Any, step: Any, block: Any, first: Any, count: int) -> tirx.Stmt:
        """Some blocks of some rows, as many rows at once as are summed together."""
        rows = min(self.plan.rows, count)
        statements = [serial(count // rows, lambda tile: self._tile(
            phase, way, step, block, first + tile * rows, rows
        ))]  # fmt: skip
        if count % rows:
            statements.append(self._tile(phase, way, step, block, first + (count - count % rows), count % rows))
        return sequence(statements)

    def _tile(self, phase: Phase, way: Any, step: Any, block: Any, row: Any, rows: int) -> tirx.Stmt:
        """Sums over the whole state, and what the cell makes of them."""
        wide, gates, sums = self.plan.wide, phase.last - phase.first, self.buffers.sums
        source, recur = CODES if self.loop.quantized else phase.source, self.buffers.outer["recur"]
        tiles = [(r, w, (r * wide + w) * gates * UNITS) for r in range(rows) for w in range(wide)]
        vectors = [(r, w, g, place + g * UNITS) for g in range(gates) for r, w, place in tiles]

        def clear(place: int) -> tirx.Stmt:
            return vector(UNITS, lambda lane: tirx.BufferStore(
                sums, tirx.const(0, self.loop.dtype), [lane + place]
            ))  # fmt: skip

        def add(along: Any, r: int, w: int, g: int, place: int) -> tirx.Stmt:
            state = self.buffers.load(source, step, way, row + r, along)
            return vector(UNITS, lambda lane: tirx.BufferStore(
                sums, sums[lane + place] + state * recur[way, block + w, along, phase.first + g, lane], [lane + place]
            ))  # fmt: skip

        def then(r: int, w: int, place: int) -> tirx.Stmt:
            return vector(UNITS, lambda lane: sequence(
                phase.then(Unit(self.loop, self.buffers, phase, way, step, row + r, block + w, place, lane))
            ))  # fmt: skip

        return sequence([
            *(clear(place) for *_, place in vectors),
            serial(self.loop.hidden, lambda along: sequence([add(along, *item) for item in vectors])),
            *(then(*item) for item in tiles),
        ])  # fmt: skip
