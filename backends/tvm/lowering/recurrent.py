"""LSTM, GRU and RNN: one product for the inputs of all steps and directions, then a kernel that loops over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from lwc.backends.tvm.lowering.expressions import Builder, const, dtype_of, shape_of, text_of
from lwc.backends.tvm.schedules.activations import FUNCTIONS
from lwc.backends.tvm.schedules.recurrence import UNITS, Plan, Recurrence
from lwc.backends.tvm.schedules.recurrent import kernel
from lwc.backends.tvm.schedules.recurrent_cells import CELLS

INPUTS = 8


@dataclass(frozen=True)
class Codes:
    """What W and R are to be multiplied with where they hold codes, [directions, gates * hidden] each.

    multiply: of inputs [rows, size], codes of W [size, columns] and their factors [columns], the products
    """

    w: relax.Expr
    r: relax.Expr
    multiply: Callable[[relax.Expr, relax.Expr, relax.Expr], relax.Expr]


def _rule(cell: str) -> Callable[..., relax.Expr]:
    def rule(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
        x, w, r, b, lengths, *rest = [*inputs, *[None] * (INPUTS - len(inputs))]
        states, peepholes = rest[: len(CELLS[cell].kept)], rest[2] if cell == "LSTM" else None
        return recurrent(bb, cell, attrs, x, w, r, b, lengths, states, peepholes)

    return rule


def recurrent(
    bb: Builder, cell: str, attrs: dict[str, Any], x: relax.Expr, w: relax.Expr, r: relax.Expr, b: relax.Expr | None,
    lengths: relax.Expr | None, states: Sequence[relax.Expr | None], peepholes: relax.Expr | None,
    codes: Codes | None = None,
) -> relax.Expr:  # fmt: skip
    """Y, Y_h and, of LSTM, Y_c.

    w, r: [directions, gates * hidden, size or hidden];  b: [directions, 2 * gates * hidden];  states: those at first
    """
    batch_first = attrs.get("layout", 0) == 1
    x = bb.emit(relax.op.permute_dims(x, [1, 0, 2])) if batch_first else x
    steps, batch, size = shape_of(x)
    directions, hidden, dtype = shape_of(w)[0], attrs["hidden_size"], dtype_of(x)
    loop = Recurrence(
        cell, steps, batch, hidden, _reverse(attrs, directions), _functions(cell, attrs, directions), dtype,
        float(attrs.get("clip", 0.0)), bool(attrs.get("linear_before_reset", 0)), bool(attrs.get("input_forget", 0)),
        "" if lengths is None else dtype_of(lengths), peepholes is not None, codes is not None,
    )  # fmt: skip
    if b is None:
        b = const(np.zeros((directions, 2 * loop.gates * hidden)), dtype)
    flat = bb.emit(relax.op.reshape(x, [steps * batch, size]))
    columns = bb.emit_te(lambda value: _columns(value, loop), w, primfunc_name_hint="columns")
    if codes is None:
        products = relax.op.matmul(flat, columns)
    else:
        factors = relax.op.reshape(bb.emit_te(lambda value: _factors(value, loop), codes.w, primfunc_name_hint="factors"), [-1])
        products = codes.multiply(flat, columns, bb.emit(factors))
    zeros = const(np.zeros((directions, batch, hidden)), dtype)
    given = {
        "given": bb.emit(relax.op.add(products, bb.emit_te(lambda value: _biases(value, loop), b, primfunc_name_hint="biases"))),
        "recur": bb.emit_te(lambda value: _blocks(value, loop), r, primfunc_name_hint="blocks"),
        "lengths": lengths,
        "peephole": None if peepholes is None else bb.emit_te(lambda value: _padded(value, 0, 3, loop), peepholes, primfunc_name_hint="peephole"),
        "own_bias": bb.emit_te(lambda value: _padded(value, 2 * loop.gates - 1, 1, loop), b, primfunc_name_hint="own_bias"),
        "factor": None if codes is None else bb.emit_te(lambda value: _factors(value, loop), codes.r, primfunc_name_hint="factors"),
    }
    for name, state in zip(CELLS[cell].kept, states, strict=True):
        turned = relax.op.permute_dims(state, [1, 0, 2]) if state is not None and batch_first else state
        given[f"first_{name}"] = zeros if turned is None else bb.emit(turned)
    function = bb.add_func(kernel(loop, Plan()), "recurrent")
    types = [relax.TensorType(shape, kind) for shape, kind in loop.results().values()]
    made = bb.emit(relax.call_tir(function, [given[name] for name in loop.arguments()], types))
    results = [bb.emit(relax.TupleGetItem(made, k)) for k in range(len(types))]
    if batch_first:
        results = [bb.emit(relax.op.permute_dims(y, [2, 0, 1, 3] if y is results[0] else [1, 0, 2])) for y in results]
    return relax.Tuple(results)


def _reverse(attrs: dict[str, Any], directions: int) -> tuple[bool, ...]:
    return (False, True) if directions == 2 else (text_of(attrs, "direction", "forward") == "reverse",)


def _functions(cell: str, attrs: dict[str, Any], directions: int) -> tuple[tuple[tuple[str, float, float], ...], ...]:
    """Those of each direction; alphas and betas are given to the functions that take one, in order."""
    default = CELLS[cell].default
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in attrs.get("activations") or ()]
    alphas, betas = iter(attrs.get("activation_alpha", ())), iter(attrs.get("activation_beta", ()))
    found = []
    for name in (name.lower() for name in names or default * directions):
        known = FUNCTIONS[name]
        alpha = 0.0 if known.alpha is None else float(next(alphas, known.alpha))
        found.append((name, alpha, 0.0 if known.beta is None else float(next(betas, known.beta))))
    each = len(default)
    return tuple(tuple(found[way * each : (way + 1) * each]) for way in range(directions))


def _inside(loop: Recurrence, unit: Any, value: Any) -> Any:
    """The value of a unit; 0 for those that fill up the last block."""
    if loop.hidden % UNITS == 0:
        return value
    return tirx.if_then_else(unit < loop.hidden, value, tirx.const(0, loop.dtype))


def _columns(w: te.Tensor, loop: Recurrence) -> te.Tensor:
    """[size, directions * blocks * gates * UNITS]"""
    def element(along: Any, column: Any) -> Any:
        way, gate, unit = _parts(column, loop)
        return _inside(loop, unit, w[way, gate * loop.hidden + unit, along])

    return te.compute((w.shape[2], loop.directions * loop.blocks * loop.gates * UNITS), element, name="columns")


def _biases(b: te.Tensor, loop: Recurrence) -> te.Tensor:
    """[directions * blocks * gates * UNITS]: those of W, and of R where they can be added ahead."""
    def element(column: Any) -> Any:
        way, gate, unit = _parts(column, loop)
        own, folded = b[way, gate * loop.hidden + unit], b[way, (loop.gates + gate) * loop.hidden + unit]
        both = own + tirx.if_then_else(gate < CELLS[loop.cell].folded, folded, tirx.const(0, loop.dtype))
        return _inside(loop, unit, both)

    return te.compute((loop.directions * loop.blocks * loop.gates * UNITS,), element, name="biases")


def _parts(column: Any, loop: Recurrence) -> tuple[Any, Any, Any]:
    """Direction, gate and unit of a column."""
    block = column // (loop.gates * UNITS)
    return block // loop.blocks, column // UNITS % loop.gates, block % loop.blocks * UNITS + column % UNITS


def _blocks(r: te.Tensor, loop: Recurrence) -> te.Tensor:
    """[directions, blocks, hidden, gates, UNITS]"""
    def element(way: Any, block: Any, along: Any, gate: Any, lane: Any) -> Any:
        unit = block * UNITS + lane
        return _inside(loop, unit, r[way, gate * loop.hidden + unit, along])

    return te.compute((loop.directions, loop.blocks, loop.hidden, loop.gates, UNITS), element, name="blocks")


def _factors(factor: te.Tensor, loop: Recurrence) -> te.Tensor:
    """[directions, blocks, gates, UNITS]"""
    def element(way: Any, block: Any, gate: Any, lane: Any) -> Any:
        unit = block * UNITS + lane
        return _inside(loop, unit, factor[way, gate * loop.hidden + unit])

    return te.compute((loop.directions, loop.blocks, loop.gates, UNITS), element, name="factors")


def _padded(values: te.Tensor, first: int, count: int, loop: Recurrence) -> te.Tensor:
    """[directions, count, units] of values [directions, n * hidden], from the first-th on; one alone without its axis."""
    units = loop.blocks * UNITS

    def element(way: Any, k: Any, unit: Any) -> Any:
        return _inside(loop, unit, values[way, (first + k) * loop.hidden + unit])

    if count == 1:
        return te.compute((loop.directions, units), lambda way, unit: element(way, 0, unit), name="padded")
    return te.compute((loop.directions, count, units), element, name="padded")


RULES = {cell: _rule(cell) for cell in CELLS}
