"""LSTM, GRU and RNN: one product for the inputs of all steps, then a step after the other, unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.activations import Activation, activations_of
from lwc.backends.tvm.lowering.expressions import Builder, const, dtype_of, shape_of, stacked, text_of

State = tuple[relax.Expr, ...]
Multiply = Callable[[relax.Expr], relax.Expr]
Recur = Callable[[relax.Expr, int, int], relax.Expr]  # a state, and the first and last of the gates that are wanted


@dataclass(frozen=True)
class Cell:
    """One direction of one layer; what a step needs besides its input.

    bb: the block builder;  hidden: units;  recur: state [batch, hidden] -> its products with R [batch, gates * hidden]
    recur_bias: [gates * hidden], not yet added to the inputs' products;  peephole: [3, hidden] or None
    """

    bb: relax.BlockBuilder
    hidden: int
    recur: Recur
    recur_bias: relax.Expr
    peephole: relax.Expr | None
    functions: Sequence[Activation]
    clip: float
    linear_before_reset: bool
    input_forget: bool

    def gate(self, gates: relax.Expr, k: int) -> relax.Expr:
        """The k-th gate's columns, [batch, hidden]."""
        return relax.op.strided_slice(gates, [1], [k * self.hidden], [(k + 1) * self.hidden])

    def bounded(self, x: relax.Expr) -> relax.Expr:
        """Clipped as the operator asks."""
        return relax.op.clip(x, -self.clip, self.clip) if self.clip else x

    def peep(self, x: relax.Expr, k: int, cell: relax.Expr) -> relax.Expr:
        """x, and what the cell state adds to gate k."""
        if self.peephole is None:
            return x
        weight = relax.op.strided_slice(self.peephole, [0], [k], [k + 1])
        return relax.op.add(x, relax.op.multiply(weight, cell))


Step = Callable[[Cell, relax.Expr, State], State]


def lstm_step(cell: Cell, x: relax.Expr, state: State) -> State:
    """Gates in ONNX's order: input, output, forget, cell. x: [batch, 4 * hidden], biases in it."""
    hidden, memory = state
    f, g, h = cell.functions
    gates = cell.bb.emit(relax.op.add(x, cell.recur(hidden, 0, 4)))
    let_in = f(cell.bounded(cell.peep(cell.gate(gates, 0), 0, memory)))
    if cell.input_forget:
        forget = relax.op.subtract(relax.const(1.0, dtype_of(x)), let_in)
    else:
        forget = f(cell.bounded(cell.peep(cell.gate(gates, 2), 2, memory)))
    candidate = g(cell.bounded(cell.gate(gates, 3)))
    kept = relax.op.add(relax.op.multiply(forget, memory), relax.op.multiply(let_in, candidate))
    memory = cell.bb.emit(kept)
    let_out = f(cell.bounded(cell.peep(cell.gate(gates, 1), 1, memory)))
    return cell.bb.emit(relax.op.multiply(let_out, h(memory))), memory


def gru_step(cell: Cell, x: relax.Expr, state: State) -> State:
    """Gates in ONNX's order: update, reset, hidden. x: [batch, 3 * hidden], all biases but the recurrent hidden one."""
    (hidden,) = state
    f, g = cell.functions
    both = cell.bb.emit(cell.recur(hidden, 0, 2))
    update = cell.bb.emit(f(cell.bounded(relax.op.add(cell.gate(x, 0), cell.gate(both, 0)))))
    reset = f(cell.bounded(relax.op.add(cell.gate(x, 1), cell.gate(both, 1))))
    if cell.linear_before_reset:
        own = relax.op.multiply(reset, relax.op.add(cell.recur(hidden, 2, 3), cell.recur_bias))
    else:
        own = relax.op.add(cell.recur(cell.bb.emit(relax.op.multiply(reset, hidden)), 2, 3), cell.recur_bias)
    candidate = g(cell.bounded(relax.op.add(cell.gate(x, 2), own)))
    rest = relax.op.subtract(relax.const(1.0, dtype_of(x)), update)
    mixed = relax.op.add(relax.op.multiply(rest, candidate), relax.op.multiply(update, hidden))
    return (cell.bb.emit(mixed),)


def rnn_step(cell: Cell, x: relax.Expr, state: State) -> State:
    """x: [batch, hidden], biases in it."""
    (hidden,) = state
    return (cell.bb.emit(cell.functions[0](cell.bounded(relax.op.add(x, cell.recur(hidden, 0, 1))))),)


@dataclass(frozen=True)
class Kind:
    """What tells LSTM, GRU and RNN apart. folded: gates whose recurrent bias can be added ahead."""

    gates: int
    states: int
    step: Step
    default: tuple[str, ...]
    folded: int


LSTM = Kind(4, 2, lstm_step, ("Sigmoid", "Tanh", "Tanh"), 4)
GRU = Kind(3, 1, gru_step, ("Sigmoid", "Tanh"), 2)
RNN = Kind(1, 1, rnn_step, ("Tanh",), 1)


def _recurrent(kind: Kind) -> Callable[..., relax.Expr]:
    def rule(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
        padded: list[Any] = inputs + [None] * (8 - len(inputs))
        x, w, r, b, lengths, *rest = padded
        layer = Layer(bb, kind, attrs, x, lengths, rest[: kind.states], w, b)
        return layer.outputs(lambda way: _products(bb, w, way), lambda way: _recurrence(bb, r, way), rest[2])

    return rule


def _products(bb: relax.BlockBuilder, w: relax.Expr, way: int) -> Multiply:
    weight = _transposed(bb, w, way)
    return lambda x: relax.op.matmul(x, weight)


def _recurrence(bb: relax.BlockBuilder, r: relax.Expr, way: int) -> Recur:
    weight = _transposed(bb, r, way)
    hidden = shape_of(weight)[0]

    def recur(state: relax.Expr, first: int, last: int) -> relax.Expr:
        part = relax.op.strided_slice(weight, [1], [first * hidden], [last * hidden])
        return relax.op.matmul(state, weight if (last - first) * hidden == shape_of(weight)[1] else part)

    return recur


def _transposed(bb: relax.BlockBuilder, weights: relax.Expr, way: int) -> relax.Expr:
    return bb.emit(relax.op.permute_dims(_direction(weights, way), [1, 0]))


def _direction(value: relax.Expr, way: int) -> relax.Expr:
    return relax.op.take(value, const(way, "int64"), axis=0)


class Layer:
    """The operator's inputs in one form, and the way through its steps.

    x: [steps, batch, size], or [batch, steps, size] where layout is 1;  starts: of hidden and cell state, or None
    """

    def __init__(
        self, bb: relax.BlockBuilder, kind: Kind, attrs: dict[str, Any], x: relax.Expr, lengths: relax.Expr | None,
        starts: Sequence[relax.Expr | None], w: relax.Expr, b: relax.Expr | None,
    ) -> None:  # fmt: skip
        self.bb, self.kind, self.attrs, self.lengths = bb, kind, attrs, lengths
        self.batch_first = attrs.get("layout", 0) == 1
        self.x = bb.emit(relax.op.permute_dims(x, [1, 0, 2])) if self.batch_first else x
        self.steps, self.batch, _ = shape_of(self.x)
        self.hidden = attrs["hidden_size"]
        self.directions = shape_of(w)[0]
        self.dtype = dtype_of(x)
        size = [self.directions, self.batch, self.hidden]
        zero = const(np.zeros(size), self.dtype)
        flipped = [relax.op.permute_dims(s, [1, 0, 2]) if s is not None and self.batch_first else s for s in starts]
        self.starts = [bb.normalize(zero if start is None else start) for start in flipped]
        gates = kind.gates * self.hidden
        self.bias = bb.normalize(const(np.zeros((self.directions, 2 * gates)), self.dtype) if b is None else b)

    def outputs(
        self,
        products: Callable[[int], Multiply],
        recurrence: Callable[[int], Recur],
        peepholes: relax.Expr | None,
    ) -> relax.Expr:
        """Y, Y_h and, of LSTM, Y_c. products, recurrence: by direction, multiplication with W and with R."""
        made: list[list[relax.Expr]] = []
        finals: list[State] = []
        for way in range(self.directions):
            steps, final = self._walk(way, products(way), recurrence(way), peepholes)
            made.append(steps)
            finals.append(final)
        per_step = [stacked([made[way][t] for way in range(self.directions)], 0) for t in range(self.steps)]
        y = stacked([self.bb.emit(step) for step in per_step], 0)
        last = [stacked([final[k] for final in finals], 0) for k in range(self.kind.states)]
        if self.batch_first:
            y = relax.op.permute_dims(y, [2, 0, 1, 3])
            last = [relax.op.permute_dims(value, [1, 0, 2]) for value in last]
        return relax.Tuple([self.bb.emit(value) for value in (y, *last)])

    def _walk(
        self, way: int, multiply: Multiply, recur: Recur, peepholes: Any
    ) -> tuple[list[relax.Expr], State]:
        """Each step's output in order of time, and the last state."""
        cell = self._cell(way, recur, peepholes)
        inputs = self._inputs(way, multiply)
        backward = text_of(self.attrs, "direction", "forward") == "reverse" or way == 1
        state: State = tuple(self.bb.emit(_direction(start, way)) for start in self.starts)
        found: dict[int, relax.Expr] = {}
        for t in reversed(range(self.steps)) if backward else range(self.steps):
            new = self.kind.step(cell, inputs[t], state)
            found[t], state = self._masked(t, new, state)
        return [found[t] for t in range(self.steps)], state

    def _masked(self, t: int, new: State, old: State) -> tuple[relax.Expr, State]:
        """Behind its end a sequence's state stays, and its output is zero."""
        if self.lengths is None:
            return new[0], new
        alive = relax.op.greater(self.lengths, relax.const(t, dtype_of(self.lengths)))
        alive = self.bb.emit(relax.op.reshape(alive, [self.batch, 1]))
        output = relax.op.where(alive, new[0], relax.const(0.0, self.dtype))
        return self.bb.emit(output), tuple(
            self.bb.emit(relax.op.where(alive, a, b)) for a, b in zip(new, old, strict=True)
        )

    def _inputs(self, way: int, multiply: Multiply) -> list[relax.Expr]:
        """Of each step, [batch, gates * hidden]: the input's products with W, and biases."""
        gates = self.kind.gates * self.hidden
        bias = _direction(self.bias, way)
        own = relax.op.strided_slice(bias, [0], [0], [gates])
        folded = relax.op.strided_slice(bias, [0], [gates], [gates + self.kind.folded * self.hidden])
        rest = gates - self.kind.folded * self.hidden
        if rest:
            folded = relax.op.concat([folded, const(np.zeros(rest), self.dtype)], 0)
        flat = relax.op.reshape(self.x, [self.steps * self.batch, -1])
        all_steps = relax.op.add(multiply(flat), relax.op.add(own, folded))
        every = self.bb.emit(relax.op.reshape(all_steps, [self.steps, self.batch, gates]))
        return [self.bb.emit(relax.op.take(every, const(t, "int64"), axis=0)) for t in range(self.steps)]

    def _cell(self, way: int, recur: Recur, peepholes: Any) -> Cell:
        start = (self.kind.gates + self.kind.folded) * self.hidden
        rest = relax.op.strided_slice(_direction(self.bias, way), [0], [start], [2 * self.kind.gates * self.hidden])
        peephole = None
        if peepholes is not None:
            peephole = self.bb.emit(relax.op.reshape(_direction(peepholes, way), [3, self.hidden]))
        each = len(self.kind.default)
        functions = activations_of(self.attrs, self.kind.default * self.directions)[way * each : (way + 1) * each]
        attrs = self.attrs
        typed = [_on_variables(self.bb, function) for function in functions]
        return Cell(
            self.bb, self.hidden, recur, rest, peephole, typed, attrs.get("clip", 0.0),
            bool(attrs.get("linear_before_reset", 0)), bool(attrs.get("input_forget", 0)),
        )  # fmt: skip


def _on_variables(bb: Builder, function: Activation) -> Activation:
    """The function of a bound value, whose type is known."""
    return lambda x: function(bb.emit(x))


RULES = {"LSTM": _recurrent(LSTM), "GRU": _recurrent(GRU), "RNN": _recurrent(RNN)}
