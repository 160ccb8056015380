"""LSTM, GRU and RNN: one product for the inputs of all steps and directions, then a kernel that loops over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Builder, const, dtype_of, shape_of, text_of
from lwc.backends.tvm.lowering.recurrent_weights import biases, blocks, columns, factors, vectors
from lwc.backends.tvm.schedules.activations import FUNCTIONS
from lwc.backends.tvm.schedules.recurrence import Plan, Recurrence
from lwc.backends.tvm.schedules.recurrent import kernel
from lwc.backends.tvm.schedules.recurrent_cells import CELLS

NAMES = ("x", "w", "r", "b", "lengths", "first_hidden", "first_memory", "peephole")
STATES = tuple(name for name in NAMES if name.startswith("first_"))


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
        return recurrent(bb, cell, attrs, inputs)

    return rule


def recurrent(
    bb: Builder, cell: str, attrs: dict[str, Any], inputs: Sequence[relax.Expr | None], codes: Codes | None = None
) -> relax.Expr:
    """Y, Y_h and, of LSTM, Y_c.

    inputs: those of ONNX's LSTM, GRU or RNN in their order, None where absent
    """
    given = dict.fromkeys(NAMES) | dict(zip(NAMES, inputs, strict=False))
    batch_first = attrs.get("layout", 0) == 1
    if batch_first:
        turned = {name: given[name] for name in ("x", *STATES) if given[name] is not None}
        given |= {name: bb.emit(relax.op.permute_dims(value, [1, 0, 2])) for name, value in turned.items()}
    loop = _recurrence(cell, attrs, given, codes is not None)
    arguments = _arguments(bb, loop, given, codes)
    types = [relax.TensorType(shape, kind) for shape, kind in loop.results().values()]
    function = bb.add_func(kernel(loop, Plan()), "recurrent")
    made = bb.emit(relax.call_tir(function, [arguments[name] for name in loop.arguments()], types))
    every, *last = [bb.emit(relax.TupleGetItem(made, k)) for k in range(len(types))]
    if batch_first:
        every = bb.emit(relax.op.permute_dims(every, [2, 0, 1, 3]))
        last = [bb.emit(relax.op.permute_dims(state, [1, 0, 2])) for state in last]
    return relax.Tuple([every, *last])


def _recurrence(cell: str, attrs: dict[str, Any], given: Mapping[str, Any], quantized: bool) -> Recurrence:
    steps, batch, _ = shape_of(given["x"])
    directions, lengths = shape_of(given["w"])[0], given["lengths"]
    backward = text_of(attrs, "direction", "forward") == "reverse"
    return Recurrence(
        cell, steps, batch, int(attrs["hidden_size"]), (False, True) if directions == 2 else (backward,),
        _functions(cell, attrs, directions), dtype_of(given["x"]), float(attrs.get("clip", 0.0)),
        bool(attrs.get("linear_before_reset", 0)), bool(attrs.get("input_forget", 0)),
        "" if lengths is None else dtype_of(lengths), given["peephole"] is not None, quantized,
    )  # fmt: skip


def _arguments(
    bb: Builder, loop: Recurrence, given: Mapping[str, Any], codes: Codes | None
) -> dict[str, relax.Expr | None]:
    """What the kernel takes, by name."""
    b = given["b"]
    if b is None:
        b = const(np.zeros((loop.directions, 2 * loop.gates * loop.hidden)), loop.dtype)
    zeros = const(np.zeros((loop.directions, loop.batch, loop.hidden)), loop.dtype)
    flat = bb.emit(relax.op.reshape(given["x"], [loop.steps * loop.batch, -1]))
    packed = columns(bb, given["w"], loop)
    products = codes.multiply(flat, packed, factors(bb, codes.w, loop)) if codes else relax.op.matmul(flat, packed)
    found = {
        "given": bb.emit(relax.op.add(products, biases(bb, b, loop))),
        "recur": blocks(bb, given["r"], loop),
        "lengths": given["lengths"],
        "own_bias": vectors(bb, b, 2 * loop.gates - 1, 1, loop),
        **{name: zeros if given[name] is None else given[name] for name in STATES},
    }
    if loop.peepholes:
        found["peephole"] = vectors(bb, given["peephole"], 0, 3, loop)
    if codes:
        found["factor"] = factors(bb, codes.r, loop)
    return found


def _functions(cell: str, attrs: dict[str, Any], directions: int) -> tuple[tuple[tuple[str, float, float], ...], ...]:
    """Those of each direction; alphas and betas are given to the functions that take one, in order."""
    default = CELLS[cell].default
    named = [name.decode() if isinstance(name, bytes) else str(name) for name in attrs.get("activations") or ()]
    alphas, betas = iter(attrs.get("activation_alpha", ())), iter(attrs.get("activation_beta", ()))
    found = []
    for name in (name.lower() for name in named or default * directions):
        known = FUNCTIONS[name]
        alpha = 0.0 if known.alpha is None else float(next(alphas, known.alpha))
        found.append((name, alpha, 0.0 if known.beta is None else float(next(betas, known.beta))))
    each = len(default)
    return tuple(tuple(found[way * each : (way + 1) * each]) for way in range(directions))


RULES = {cell: _rule(cell) for cell in CELLS}
