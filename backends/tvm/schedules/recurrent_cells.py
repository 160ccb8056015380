"""What LSTM, GRU and RNN make of their gates' sums, for some neighbouring units at once.

Functions are applied to sums alone, which are in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tvm import tirx

from lwc.backends.tvm.schedules.activations import Activation, number

Vector: TypeAlias = tirx.Expr
# States a cell keeps from step to step, and what one phase of a step leaves to the next.
HIDDEN, MEMORY, UPDATE, LEFT = "hidden", "memory", "update", "left"


class Units(Protocol):
    """Some units of a sequence at one step; every vector has one lane for each."""

    @property
    def functions(self) -> Sequence[Activation]:
        """Of this direction."""

    @property
    def input_forget(self) -> bool:
        """Whether the input gate says what is forgotten."""

    def ready(self, gate: int, memory: Vector | None = None) -> tirx.Stmt:
        """Make the argument of the gate's function of its sum: with the input's product, biases, peephole, clipped."""

    def reset(self, gate: int, factor: Vector) -> tirx.Stmt:
        """The same where the product with R and its bias are multiplied by `factor` first."""

    def put(self, gate: int, value: Vector) -> tirx.Stmt:
        """Replace a gate's sum."""

    def at(self, gate: int) -> Vector:
        """A gate's sum, or what was put in its place."""

    def old(self, state: str) -> Vector:
        """A state before this step."""

    def new(self, state: str) -> Vector:
        """What `keep` has stored in this step."""

    def keep(self, state: str, value: Vector) -> tirx.Stmt:
        """Store a state of these units."""


@dataclass(frozen=True)
class Phase:
    """Products of `source` with the columns of R for gates first ... last - 1, and what is made of their sums."""

    first: int
    last: int
    source: str
    then: Callable[[Units], list[tirx.Stmt]]


@dataclass(frozen=True)
class Cell:
    """gates: in ONNX's order;  kept: states that are outputs;  default: functions
    folded: gates whose recurrent bias can be added ahead
    """

    gates: int
    kept: tuple[str, ...]
    default: tuple[str, ...]
    folded: int


def lstm(of: Units) -> list[tirx.Stmt]:
    """Gates: input, output, forget, cell."""
    f, g, h = of.functions
    memory = of.old(MEMORY)
    if of.input_forget:
        kept = [of.ready(0, memory), of.ready(3), of.put(0, f(of.at(0))), of.put(3, g(of.at(3)))]
        remembered = _mixed(of.at(0), of.at(3), memory)
    else:
        kept = [of.ready(0, memory), of.ready(2, memory), of.ready(3)]
        remembered = f(of.at(2)) * memory + f(of.at(0)) * g(of.at(3))
    return [
        *kept, of.put(3, remembered), of.ready(1, of.at(3)),
        of.keep(MEMORY, of.at(3)), of.keep(HIDDEN, f(of.at(1)) * h(of.at(3))),
    ]  # fmt: skip


def gru(of: Units) -> list[tirx.Stmt]:
    """Gates: update, reset, hidden; what is reset is the product of the hidden gate."""
    f, g = of.functions
    return [
        of.ready(0), of.ready(1), of.reset(2, f(of.at(1))), of.put(0, f(of.at(0))), of.put(2, g(of.at(2))),
        of.keep(HIDDEN, _mixed(of.at(0), of.old(HIDDEN), of.at(2))),
    ]  # fmt: skip


def gru_gates(of: Units) -> list[tirx.Stmt]:
    """The first of two phases: how much is updated, and what reset leaves of the state."""
    f = of.functions[0]
    return [of.ready(0), of.ready(1), of.keep(UPDATE, f(of.at(0))), of.keep(LEFT, f(of.at(1)) * of.old(HIDDEN))]


def gru_candidate(of: Units) -> list[tirx.Stmt]:
    """The second phase."""
    one = number(1, of.at(2))
    return [of.reset(2, one), of.put(2, of.functions[1](of.at(2))),
            of.keep(HIDDEN, _mixed(of.new(UPDATE), of.old(HIDDEN), of.at(2)))]  # fmt: skip


def rnn(of: Units) -> list[tirx.Stmt]:
    """One gate, which is the output."""
    return [of.ready(0), of.keep(HIDDEN, of.functions[0](of.at(0)))]


def _mixed(part: Vector, first: Vector, second: Vector) -> Vector:
    """part first + (1 - part) second"""
    return part * first + (number(1, part) - part) * second


CELLS: Mapping[str, Cell] = {
    "LSTM": Cell(4, (HIDDEN, MEMORY), ("Sigmoid", "Tanh", "Tanh"), 4),
    "GRU": Cell(3, (HIDDEN,), ("Sigmoid", "Tanh"), 2),
    "RNN": Cell(1, (HIDDEN,), ("Tanh",), 1),
}


def phases(cell: str, linear_before_reset: bool) -> list[Phase]:
    """Those of one step, in order."""
    if cell == "LSTM":
        return [Phase(0, 4, HIDDEN, lstm)]
    if cell == "RNN":
        return [Phase(0, 1, HIDDEN, rnn)]
    if linear_before_reset:
        return [Phase(0, 3, HIDDEN, gru)]
    return [Phase(0, 2, HIDDEN, gru_gates), Phase(2, 3, LEFT, gru_candidate)]
