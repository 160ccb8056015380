"""What a recurrent operator computes over time, and how many of its sums are computed at once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.recurrent_cells import CELLS
from lwc.backends.tvm.schedules.statements import whole_step, worth_threads

UNITS = 16  # a cache line of floats
ENOUGH_SUMS = 8  # in flight, to hide the latency of two multiply-adds a cycle

Shapes = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Recurrence:
    """One operator, but for the products of its inputs with W.

    reverse, functions: of each direction; functions by name, with alpha and beta
    lengths: the type of the sequences' lengths, empty where all have `steps`
    quantized: R holds codes, and the state is quantized before each product as DynamicQuantizeLinear does
    """

    cell: str
    steps: int
    batch: int
    hidden: int
    reverse: tuple[bool, ...]
    functions: tuple[tuple[tuple[str, float, float], ...], ...]
    dtype: str = "float32"
    clip: float = 0.0
    linear_before_reset: bool = False
    input_forget: bool = False
    lengths: str = ""
    peepholes: bool = False
    quantized: bool = False

    @property
    def directions(self) -> int:
        return len(self.reverse)

    @property
    def gates(self) -> int:
        return CELLS[self.cell].gates

    @property
    def blocks(self) -> int:
        """Blocks of units."""
        return -(-self.hidden // UNITS)

    def arguments(self) -> Shapes:
        """What the kernel takes, by name: shapes and types."""
        ways, units = self.directions, self.blocks * UNITS
        state = (ways, self.batch, self.hidden)
        found = {
            "given": ((self.steps * self.batch, ways * self.gates * units), self.dtype),
            "recur": ((ways, self.blocks, self.hidden, self.gates, UNITS), self.dtype),
            **{f"first_{name}": (state, self.dtype) for name in CELLS[self.cell].kept},
        }
        if self.lengths:
            found["lengths"] = ((self.batch,), self.lengths)
        if self.peepholes:
            found["peephole"] = ((ways, 3, units), self.dtype)
        if CELLS[self.cell].folded < self.gates:
            found["own_bias"] = ((ways, 1, units), self.dtype)
        if self.quantized:
            found["factor"] = ((ways * self.gates * units,), self.dtype)
        return found

    def results(self) -> Shapes:
        """What it gives, by name: the state at every step, and the last states."""
        state = (self.directions, self.batch, self.hidden)
        last = {f"last_{name}": (state, self.dtype) for name in CELLS[self.cell].kept}
        return {"every": ((self.steps, *state), self.dtype), **last}

    @property
    def work(self) -> int:
        """Multiplications in a step."""
        return self.directions * self.batch * self.gates * self.hidden**2

    def text(self) -> str:
        """As `parse` reads it."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Recurrence:
        """What `text` wrote."""
        found = json.loads(text)
        functions = tuple(tuple(tuple(item) for item in way) for way in found["functions"])
        return Recurrence(**found | {"reverse": tuple(found["reverse"]), "functions": functions})


@dataclass(frozen=True)
class Plan:
    """rows, wide: sequences and blocks whose sums are in registers at once
    parts: of the batch, each walking on its own;  spread: whether the blocks of a step are spread over the cores
    """

    rows: int = 1
    wide: int = 1
    parts: int = 1
    spread: bool = False

    @staticmethod
    def of(loop: Recurrence, machine: Machine) -> Plan:
        """For a machine's registers and cores."""
        vectors = -(-UNITS * (8 if loop.dtype == "float64" else 4) // machine.vector_bytes)
        each = loop.gates * vectors
        parts = 1 if loop.quantized else whole_step(loop.batch, -(-machine.cores // loop.directions))
        rows = next((n for n in range(loop.batch // parts, 1, -1) if _fits(machine, n, each)), 1)
        fitting = [
            count for count in range(1, loop.blocks + 1)
            if loop.blocks % count == 0 and (count == 1 or _fits(machine, rows, count * each))
        ]
        wide = next((count for count in fitting if count * rows * each >= ENOUGH_SUMS), fitting[-1])
        return Plan(rows, wide, parts, loop.directions * parts < machine.cores and worth_threads(loop.work))


def _fits(machine: Machine, rows: int, vectors: int) -> bool:
    """Sums, R's vectors for one row, and a value of the state, all in registers."""
    return rows * vectors + vectors + 1 <= machine.registers
