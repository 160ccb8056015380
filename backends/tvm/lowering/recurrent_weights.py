"""Weights of recurrent operators in the order that `schedules.recurrent` reads them, computed from constants once.

Units come in blocks of UNITS, those that fill up the last one with weights of zero; a block has all gates of its units.
"""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx

from lwc.backends.tvm.lowering.expressions import Builder
from lwc.backends.tvm.schedules.recurrence import UNITS, Recurrence
from lwc.backends.tvm.schedules.recurrent_cells import CELLS


def columns(bb: Builder, w: relax.Expr, loop: Recurrence) -> relax.Expr:
    """w [directions, gates * hidden, size] -> [size, directions * blocks * gates * UNITS]"""

    def compute(w: te.Tensor) -> te.Tensor:
        return te.compute(
            (w.shape[2], _width(loop)), lambda along, column: _of(w, loop, *_parts(column, loop), along), name="columns"
        )

    return bb.emit_te(compute, w, primfunc_name_hint="columns")


def biases(bb: Builder, b: relax.Expr, loop: Recurrence) -> relax.Expr:
    """b [directions, 2 * gates * hidden] -> as columns: biases of W, with those of R that can be added ahead"""

    def element(b: te.Tensor, column: Any) -> Any:
        way, gate, unit = _parts(column, loop)
        folded = gate < CELLS[loop.cell].folded
        other = tirx.if_then_else(folded, _of(b, loop, way, loop.gates + gate, unit), tirx.const(0, loop.dtype))
        return _of(b, loop, way, gate, unit) + other

    def compute(b: te.Tensor) -> te.Tensor:
        return te.compute((_width(loop),), lambda column: element(b, column), name="biases")

    return bb.emit_te(compute, b, primfunc_name_hint="biases")


def factors(bb: Builder, values: relax.Expr, loop: Recurrence) -> relax.Expr:
    """values [directions, gates * hidden] -> as columns"""

    def compute(values: te.Tensor) -> te.Tensor:
        return te.compute((_width(loop),), lambda column: _of(values, loop, *_parts(column, loop)), name="factors")

    return bb.emit_te(compute, values, primfunc_name_hint="factors")


def blocks(bb: Builder, r: relax.Expr, loop: Recurrence) -> relax.Expr:
    """r [directions, gates * hidden, hidden] -> [directions, blocks, hidden, gates, UNITS]"""

    def compute(r: te.Tensor) -> te.Tensor:
        return te.compute(
            (loop.directions, loop.blocks, loop.hidden, loop.gates, UNITS),
            lambda way, block, along, gate, lane: _of(r, loop, way, gate, block * UNITS + lane, along), name="blocks",
        )  # fmt: skip

    return bb.emit_te(compute, r, primfunc_name_hint="blocks")


def vectors(bb: Builder, values: relax.Expr, first: int, count: int, loop: Recurrence) -> relax.Expr:
    """values [directions, n * hidden] -> [directions, count, units], from the first-th on"""

    def compute(values: te.Tensor) -> te.Tensor:
        return te.compute(
            (loop.directions, count, loop.blocks * UNITS),
            lambda way, k, unit: _of(values, loop, way, first + k, unit), name="vectors",
        )  # fmt: skip

    return bb.emit_te(compute, values, primfunc_name_hint="vectors")


def _width(loop: Recurrence) -> int:
    return loop.directions * loop.blocks * loop.gates * UNITS


def _parts(column: Any, loop: Recurrence) -> tuple[Any, Any, Any]:
    """Direction, gate and unit of a column."""
    block = column // (loop.gates * UNITS)
    return block // loop.blocks, column // UNITS % loop.gates, block % loop.blocks * UNITS + column % UNITS


def _of(values: te.Tensor, loop: Recurrence, way: Any, gate: Any, unit: Any, *along: Any) -> Any:
    """A unit's value; 0 for those that fill up the last block."""
    value = values(way, gate * loop.hidden + unit, *along)
    if loop.hidden % UNITS == 0:
        return value
    return tirx.if_then_else(unit < loop.hidden, value, tirx.const(0, loop.dtype))
