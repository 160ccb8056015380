"""Attention in one nest: scores of some rows, their softmax, and its product with the values, before the next rows.

No score leaves the first-level cache; after Rabe and Staats, Self-attention does not need O(n^2) memory (2021), but
with all of a row's scores at once, so that softmax is the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.pointwise import follows, ravel, unravel
from lwc.backends.tvm.schedules.product import Product, Tiles, product_of
from lwc.backends.tvm.schedules.reduction import Rows, same_row, same_rows
from lwc.backends.tvm.schedules.statements import parallel, sequence, serial, with_nest
from lwc.backends.tvm.schedules.steps import Step, loads, steps

LEAST_ROWS = 8


def attention(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Two products over the same rows with reductions of those rows between them."""
    found = steps(func)
    parts = _parts(found) if found else None
    if parts is None or any(step.buffer in set(func.params) for step in parts.inner):
        return None
    fitting = _rows(parts, machine)
    chunk = machine.tuned.best(Fused.of(func), _chunks(parts, fitting), lambda chunk: abs(chunk.rows - fitting))
    return _written(func, parts, chunk.rows, machine)


@dataclass(frozen=True)
class Chunk:
    """rows: that a task does at once"""

    rows: int


@dataclass(frozen=True)
class _Parts:
    """first: product that gives scores;  scores: elementwise steps on them;  rows: softmax
    last: product with the values;  rest: elementwise steps after it
    """

    first: Product
    scores: Sequence[Step]
    rows: Sequence[Step]
    last: Product
    rest: Sequence[Step]

    @property
    def inner(self) -> list[Step]:
        """All whose results stay within the nest."""
        return [self.first.step, *self.scores, *self.rows]


def _written(func: tirx.PrimFunc, parts: _Parts, count: int, machine: Machine) -> tirx.PrimFunc:
    batch_extents, row_extents = parts.first.batch, parts.first.rows
    batches, total = math.prod(batch_extents), math.prod(row_extents)
    chunks = math.ceil(total / count)
    scored = (parts.scores[-1] if parts.scores else parts.first.step).buffer
    first = Tiles(parts.first, parts.scores, {scored}, machine, count)
    last = Tiles(parts.last, parts.rest, set(func.params), machine, count)
    rows = Rows(parts.rows, len(batch_extents) + len(row_extents), machine.lanes, {})
    own = {
        step.buffer: tirx.decl_buffer(
            (count * math.prod(step.extents[rows.depth :]),), step.buffer.dtype, step.buffer.name, scope="local"
        )
        for step in parts.inner
    }

    def task(number: tirx.Var) -> tirx.Stmt:
        batch, chunk = unravel(number, (batches, chunks))
        start = tirx.Var("start", "int64")
        each = serial(count, lambda at: rows.at([*unravel(batch, batch_extents), *unravel(start + at, row_extents)]))
        body = sequence([_all(first, batch, start), each, _all(last, batch, start)])
        bound = tirx.Bind(start, tirx.min(chunk * count, total - count))
        return sequence([bound, _localized(body, own, parts.first, start)])

    nests = parallel(batches * chunks, task)
    return with_nest(func, nests, [*own.values(), *rows.partial, first.sums, last.sums])


def _parts(found: Sequence[Step]) -> _Parts | None:
    first = product_of(found[0])
    reductions = [place for place, step in enumerate(found) if step.reduced]
    if first is None or len(reductions) < 3:
        return None
    start, end = reductions[1], reductions[-1]
    last = product_of(found[end])
    lead = (*first.batch, *first.rows)
    if last is None or first.panel or last.panel or (*last.batch, *last.rows) != lead or last.batch != first.batch:
        return None
    scores, rows, rest = found[1:start], found[start:end], found[end + 1 :]
    inside = {step.buffer for step in found[:end]}
    fitting = (
        follows(found[0], scores) and follows(found[end], rest) and same_rows([*scores, *rows], lead)
        and all(load.source not in inside or same_row(load, found[end], len(lead)) for load in loads(found[end].value))
        and not any(load.source in inside for step in rest for load in loads(step.value))
    )  # fmt: skip
    return _Parts(first, scores, rows, last, rest) if fitting else None


def _rows(parts: _Parts, machine: Machine) -> int:
    """Rows whose scores, and what softmax makes of them, lie in the first-level cache."""
    wide = sum(not step.reduced for step in parts.rows) + 1
    fitting = max(machine.l1_bytes // (4 * wide * parts.first.columns) // LEAST_ROWS, 1) * LEAST_ROWS
    return min(fitting, math.prod(parts.first.rows))


def _chunks(parts: _Parts, fitting: int) -> list[Chunk]:
    """As many rows as fit the cache, or a power of two of them."""
    total = math.prod(parts.first.rows)
    powers = (LEAST_ROWS << k for k in range(total.bit_length()))
    return [Chunk(rows) for rows in sorted({fitting, *(rows for rows in powers if rows <= total)})]


def _all(tiles: Tiles, batch: tirx.Expr, start: tirx.Expr) -> tirx.Stmt:
    return serial(tiles.panels, lambda panel: serial(tiles.row_tiles, lambda row: tiles.at(batch, panel, row, start)))


def _localized(
    body: tirx.Stmt, own: dict[tirx.Buffer, tirx.Buffer], product: Product, start: tirx.Expr
) -> tirx.Stmt:
    """The statement with buffers of all rows replaced by those of the rows from `start` on."""
    batch, depth = len(product.batch), len(product.batch) + len(product.rows)

    def place(buffer: tirx.Buffer, point: Sequence[tirx.Expr]) -> list[tirx.Expr]:
        row = ravel(point[batch:depth], product.rows) - start
        extents = [int(extent) for extent in buffer.shape][depth:]
        return [row * math.prod(extents) + ravel(point[depth:], extents)]

    def load(node: TensorLoad) -> Any:
        found = own.get(node.source)
        return node if found is None else tirx.BufferLoad(found, place(node.source, list(node.indices)))

    def store(node: tirx.BufferStore) -> Any:
        found = own.get(node.buffer)
        return node if found is None else tirx.BufferStore(found, node.value, place(node.buffer, list(node.indices)))

    return tvm_ffi.structural_map(body, [(TensorLoad, load), (tirx.BufferStore, store)])
