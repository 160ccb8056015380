"""What LSTM, GRU and RNN make of their gates' sums, for some neighbouring units at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from lwc.backends.tvm.schedules.activations import Activation, number

Vector = tirx.Expr
# States a cell keeps from step to step, and what one phase of a step leaves to the next.
HIDDEN, MEMORY, UPDATE, LEFT = "hidden", "memory", "update", "left"


class Units(Protocol):
    """Some units of a sequence at one step; every vector has one lane for each."""

    functions: Sequence[Activation]
    linear_before_reset: bool
    input_forget: bool

    def given(self, gate: int) -> Vector:
        """The input's product with W for this gate, and biases."""

    def summed(self, gate: int) -> Vector:
        """The product with R of this phase."""

    def own_bias(self) -> Vector:
        """Of GRU's hidden gate, what is added to its product with R."""

    def peep(self, gate: int, memory: Vector) -> Vector:
        """What the cell state adds to a gate; 0 without peepholes."""

    def bounded(self, x: Vector) -> Vector:
        """Clipped as the operator asks."""

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


def lstm(at: Units) -> list[tirx.Stmt]:
    """Gates: input, output, forget, cell."""
    f, g, h = at.functions

    def gate(k: int, memory: Vector) -> Vector:
        return f(at.bounded(at.given(k) + at.summed(k) + at.peep(k, memory)))

    memory, candidate = at.old(MEMORY), g(at.bounded(at.given(3) + at.summed(3)))
    if at.input_forget:
        kept = _mixed(gate(0, memory), candidate, memory)
    else:
        kept = gate(2, memory) * memory + gate(0, memory) * candidate
    return [at.keep(MEMORY, kept), at.keep(HIDDEN, gate(1, at.new(MEMORY)) * h(at.new(MEMORY)))]


def gru(at: Units) -> list[tirx.Stmt]:
    """Gates: update, reset, hidden; what is reset is the product of the hidden gate."""
    f, g = at.functions
    update, reset = (f(at.bounded(at.given(k) + at.summed(k))) for k in (0, 1))
    candidate = g(at.bounded(at.given(2) + reset * (at.summed(2) + at.own_bias())))
    return [at.keep(HIDDEN, _mixed(update, at.old(HIDDEN), candidate))]


def gru_gates(at: Units) -> list[tirx.Stmt]:
    """The first of two phases: how much is updated, and what reset leaves of the state."""
    f = at.functions[0]
    update, reset = (f(at.bounded(at.given(k) + at.summed(k))) for k in (0, 1))
    return [at.keep(UPDATE, update), at.keep(LEFT, reset * at.old(HIDDEN))]


def gru_candidate(at: Units) -> list[tirx.Stmt]:
    """The second phase."""
    candidate = at.functions[1](at.bounded(at.given(2) + at.summed(2) + at.own_bias()))
    return [at.keep(HIDDEN, _mixed(at.new(UPDATE), at.old(HIDDEN), candidate))]


def rnn(at: Units) -> list[tirx.Stmt]:
    """One gate, which is the output."""
    return [at.keep(HIDDEN, at.functions[0](at.bounded(at.given(0) + at.summed(0))))]


def _mixed(part: Vector, first: Vector, second: Vector) -> Vector:
    """part first + (1 - part) second"""
    name = tirx.Var("part", part.ty)
    return tirx.Let(name, part, name * first + (number(1, part) - name) * second)


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
