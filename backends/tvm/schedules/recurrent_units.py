"""What a cell reads and stores for one unit of a sequence at one step: buffers and places in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from lwc.backends.tvm.schedules.activations import FUNCTIONS, Activation, number
from lwc.backends.tvm.schedules.recurrence import UNITS, Recurrence
from lwc.backends.tvm.schedules.recurrent_cells import CELLS, HIDDEN, LEFT, UPDATE, Phase, phases
from lwc.backends.tvm.schedules.statements import index, sequence

CODES, RANGE, BOUNDS = "codes", "range", "bounds"


class Buffers:
    """outer: arguments and results, by name;  inner: what lasts from step to step, the hidden state twice

    sums: of a tile;  bounds: of the state's values
    """

    def __init__(self, loop: Recurrence, tile: int) -> None:
        """tile: rows times blocks"""
        self.outer = {
            name: _buffer(name, shape, dtype)
            for name, (shape, dtype) in (loop.arguments() | loop.results()).items()
        }
        shape = (loop.directions, loop.batch, loop.blocks * UNITS)
        wanted: dict[str, tuple[int, ...]] = {HIDDEN: (2, *shape)}
        wanted |= {name: shape for name in CELLS[loop.cell].kept if name != HIDDEN}
        if len(phases(loop.cell, loop.linear_before_reset)) > 1:
            wanted |= {UPDATE: shape, LEFT: shape}
        if loop.quantized:
            wanted |= {CODES: shape, RANGE: (loop.directions, 2)}
        self.inner = {name: _buffer(name, size, loop.dtype) for name, size in wanted.items()}
        self.sums = _buffer("sums", (tile * loop.gates * UNITS,), loop.dtype, "local")
        self.bounds = _buffer(BOUNDS, (2, UNITS), loop.dtype, "local")

    def load(self, name: str, step: Any, way: Any, row: Any, unit: Any) -> tirx.Expr:
        """A state as it is before the step of this number."""
        return tirx.BufferLoad(self.inner[name], _place(name, step, way, row, unit))

    def store(self, name: str, step: Any, way: Any, row: Any, unit: Any, value: tirx.Expr) -> tirx.Stmt:
        """A state as it will be before the step of this number."""
        return tirx.BufferStore(self.inner[name], value, _place(name, step, way, row, unit))


def _place(name: str, step: Any, way: Any, row: Any, unit: Any) -> list[Any]:
    return [step % 2, way, row, unit] if name == HIDDEN else [way, row, unit]


def _buffer(name: str, shape: tuple[int, ...], dtype: str, scope: str = "global") -> tirx.Buffer:
    return tirx.decl_buffer([index(size) for size in shape], dtype, name, scope=scope)


@dataclass(frozen=True)
class Unit:
    """One lane of `recurrent_cells.Units`: unit `lane` of a block, its sums from `place` on."""

    loop: Recurrence
    buffers: Buffers
    phase: Phase
    way: Any
    step: Any
    row: Any
    block: Any
    place: int
    lane: Any

    @property
    def input_forget(self) -> bool:
        return self.loop.input_forget

    @property
    def functions(self) -> list[Activation]:
        """Chosen by direction where the directions have different ones."""
        ways = self.loop.functions
        own = [[_function(item) for item in way] for way in ways]
        if len(set(ways)) == 1:
            return own[0]
        return [_either(self.way, *pair) for pair in zip(*own, strict=True)]

    @property
    def unit(self) -> Any:
        return self.block * UNITS + self.lane

    @property
    def time(self) -> Any:
        """The place in the sequence that this step is at."""
        loop = self.loop
        if len(set(loop.reverse)) > 1:
            return self.step + self.way * (loop.steps - 1 - 2 * self.step)
        return loop.steps - 1 - self.step if loop.reverse[0] else self.step

    def ready(self, gate: int, memory: tirx.Expr | None = None) -> tirx.Stmt:
        value = self._given(gate) + self._summed(gate)
        if self.loop.peepholes and memory is not None:
            value = value + self.buffers.outer["peephole"][self.way, gate, self.unit] * memory
        return self.put(gate, self._bounded(value))

    def reset(self, gate: int, factor: tirx.Expr) -> tirx.Stmt:
        own = self._summed(gate) + self.buffers.outer["own_bias"][self.way, 0, self.unit]
        return self.put(gate, self._bounded(self._given(gate) + factor * own))

    def put(self, gate: int, value: tirx.Expr) -> tirx.Stmt:
        return tirx.BufferStore(self.buffers.sums, value, [self._slot(gate)])

    def at(self, gate: int) -> tirx.Expr:
        return self.buffers.sums[self._slot(gate)]

    def _slot(self, gate: int) -> Any:
        return self.lane + (self.place + (gate - self.phase.first) * UNITS)

    def _given(self, gate: int) -> tirx.Expr:
        """The input's product with W, and biases."""
        return self.buffers.outer["given"][self.time * self.loop.batch + self.row, self._column(gate)]

    def _column(self, gate: int) -> Any:
        loop = self.loop
        return ((self.way * loop.blocks + self.block) * loop.gates + gate) * UNITS + self.lane

    def _summed(self, gate: int) -> tirx.Expr:
        """The state's product with R."""
        if not self.loop.quantized:
            return self.at(gate)
        factor = self.buffers.outer["factor"][self._column(gate)]
        return self.at(gate) * (self.buffers.inner[RANGE][self.way, 0] * factor)

    def _bounded(self, x: tirx.Expr) -> tirx.Expr:
        clip = self.loop.clip
        return tirx.max(tirx.min(x, number(clip, x)), number(-clip, x)) if clip else x

    def old(self, state: str) -> tirx.Expr:
        return self.buffers.load(state, self.step, self.way, self.row, self.unit)

    def new(self, state: str) -> tirx.Expr:
        return self.buffers.load(state, self.step + 1, self.way, self.row, self.unit)

    def keep(self, state: str, value: tirx.Expr) -> tirx.Stmt:
        loop, outer = self.loop, self.buffers.outer
        alive = self.time < outer["lengths"][self.row].astype("int64") if loop.lengths else None
        if alive is not None and state in CELLS[loop.cell].kept:
            value = tirx.Select(alive, value, self.old(state))
        stored = self.buffers.store(state, self.step + 1, self.way, self.row, self.unit, value)
        if state != HIDDEN:
            return stored
        shown = self.new(HIDDEN) if alive is None else tirx.Select(alive, self.new(HIDDEN), number(0, value))
        out = tirx.BufferStore(outer["every"], shown, [self.time, self.way, self.row, self.unit])
        inside = out if loop.hidden % UNITS == 0 else tirx.IfThenElse(self.unit < loop.hidden, out, None)
        return sequence([stored, inside])


def _function(item: tuple[str, float, float]) -> Activation:
    name, alpha, beta = item
    return lambda x: FUNCTIONS[name].apply(x, alpha, beta)


def _either(way: Any, first: Activation, second: Activation) -> Activation:
    return lambda x: tirx.Select(way < 1, first(x), second(x))
