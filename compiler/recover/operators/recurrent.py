"""LSTM, GRU and RNN, step by step. X is [time, batch, features] or, with layout 1, [batch, time, features]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]
Activation = Callable[[Tensor], Tensor]
# One step: (gates of the input [batch, gates * hidden], recurrent weight, its bias, states) -> new states, first h.
Step = Callable[[Tensor, Tensor, Tensor, "tuple[Tensor, ...]"], "tuple[Tensor, ...]"]

_ACTIVATIONS: Mapping[str, Activation] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}


def lstm(
    a: Attributes,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gates in the order input, output, forget, cell."""

    def step_of(direction: int) -> Step:
        f, g, last = _activations(a, direction, ("sigmoid", "tanh", "tanh"))
        p = None if peepholes is None else peepholes[direction].chunk(3)

        def step(gates: Tensor, weight: Tensor, bias: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden, cell = states
            i, o, forget, new = (gates + F.linear(hidden, weight, bias)).chunk(4, -1)
            if p is not None:
                i, forget = i + p[0] * cell, forget + p[2] * cell
            cell = f(forget) * cell + f(i) * g(new)
            return f(o if p is None else o + p[1] * cell) * last(cell), cell

        return step

    return _layer(a, x, w, r, b, lengths, (h, c), step_of)


def _one_state(step_of: Callable[[Attributes, int], Step]) -> Operator:
    """The operator whose step keeps h alone.  step_of: of the attributes and a direction"""

    def operator(
        a: Attributes,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        return _layer(a, x, w, r, b, lengths, (h,), partial(step_of, a))

    return operator


def _gru_step(a: Attributes, direction: int) -> Step:
    """Gates in the order update, reset, hidden."""
    after = a.flag("linear_before_reset")
    f, g = _activations(a, direction, ("sigmoid", "tanh"))

    def step(gates: Tensor, weight: Tensor, bias: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = states[0]
        size = hidden.shape[-1]
        gated, last = slice(2 * size), slice(2 * size, None)
        z, reset = f(gates[:, gated] + F.linear(hidden, weight[gated], bias[gated])).chunk(2, -1)
        seen = hidden if after else reset * hidden
        new = F.linear(seen, weight[last], bias[last])
        new = reset * new if after else new
        return ((1 - z) * g(gates[:, last] + new) + z * hidden,)

    return step


def _rnn_step(a: Attributes, direction: int) -> Step:
    (f,) = _activations(a, direction, ("tanh",))
    return lambda gates, weight, bias, states: (f(gates + F.linear(states[0], weight, bias)),)


def _activations(a: Attributes, direction: int, usual: Sequence[str]) -> list[Activation]:
    if a.number("clip") or a.floats("activation_alpha") or a.flag("input_forget"):
        raise NotImplementedError(f"{a.node.op_type} with clip, activation_alpha or input_forget")
    names = [name.lower() for name in a.texts("activations", list(usual) * 2)]
    try:
        return [_ACTIVATIONS[name] for name in names[direction * len(usual) :][: len(usual)]]
    except KeyError as error:
        raise NotImplementedError(f"{a.node.op_type} with activation {error}") from error


def _layer(
    a: Attributes,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    starts: Sequence[Tensor | None],
    step_of: Callable[[int], Step],
) -> tuple[Tensor, ...]:
    """All directions; (Y [time, directions, batch, hidden], last states [directions, batch, hidden] ...)."""
    batch_first = a.flag("layout")
    if batch_first:
        x = x.transpose(0, 1)
        starts = [None if start is None else start.transpose(0, 1) for start in starts]
    directions, hidden = r.shape[0], r.shape[-1]
    outputs, lasts = [], []
    for k in range(directions):
        bias = x.new_zeros(2 * w.shape[1]) if b is None else b[k]
        states = tuple(x.new_zeros(x.shape[1], hidden) if start is None else start[k] for start in starts)
        backwards = k == 1 or a.text("direction", "forward") == "reverse"
        mine, theirs = bias.chunk(2)
        ys, states = _steps(F.linear(x, w[k], mine), r[k], theirs, states, step_of(k), lengths, backwards)
        outputs.append(ys)
        lasts.append(states)
    y = torch.stack(outputs, 1)
    ends = [torch.stack([states[n] for states in lasts]) for n in range(len(starts))]
    if batch_first:
        return y.permute(2, 0, 1, 3), *[end.transpose(0, 1) for end in ends]
    return y, *ends


def _steps(
    gates: Tensor,
    weight: Tensor,
    bias: Tensor,
    states: tuple[Tensor, ...],
    step: Step,
    lengths: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Beyond a sequence's length states stay and outputs are zero; backwards begins at its last place."""
    count = gates.shape[0]
    found: list[Tensor] = []
    for t in reversed(range(count)) if backwards else range(count):
        new = step(gates[t], weight, bias, states)
        if lengths is None:
            states, y = new, new[0]
        else:
            inside = (t < lengths)[:, None]
            states = tuple(torch.where(inside, after, before) for after, before in zip(new, states, strict=True))
            y = torch.where(inside, new[0], 0.0)
        found.append(y)
    return torch.stack(found[::-1] if backwards else found), states


OPERATORS: Mapping[str, Operator] = {"GRU": _one_state(_gru_step), "LSTM": lstm, "RNN": _one_state(_rnn_step)}
