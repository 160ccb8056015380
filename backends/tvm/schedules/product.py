"""Matrix products: a tile of rows x vectors of sums over the whole reduction, what follows fused into its store.

One value of the left operand, broadcast, times vectors of the right one, whose columns lie side by side: packed into
panels at compile time (`lwc.backends.tvm.legalize_product`), or as they are where both operands are variable. Tiles
overlap at the last rows and columns, which are then computed twice, instead of ending in slow leftovers. As in
Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008), without their packing of the left one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from tvm import tirx

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.inline import inlined
from lwc.backends.tvm.schedules.pointwise import follows, stored, unravel
from lwc.backends.tvm.schedules.product_tile import Tile, tile
from lwc.backends.tvm.schedules.statements import parallel, sequence, serial, vector, with_nest, worth_threads
from lwc.backends.tvm.schedules.steps import Step, loads, steps, uses

# Batch, first row, first column of a tile.
Place = tuple[tirx.Expr, tirx.Expr, tirx.Expr]

PANEL, CODED = "lwc.panel", "lwc.coded"


def product(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A product of two float matrices, of many, or any reduction along columns, with elementwise steps after it."""
    given, found = func, steps(func)
    if found and not found[0].reduced:
        func = inlined(func)
        found = steps(func)
    if not found or not follows(found[0], found[1:]):
        return None
    shape = product_of(found[0])
    if shape is None:
        return None
    if CODED in found[0].annotations:  # the other registers hold words, scales and offsets
        machine = replace(machine, registers=machine.registers * 3 // 4)
    work = math.prod((*shape.step.extents, *shape.step.lengths))
    of = Fused.of(given) if worth_threads(work) and not shape.panel else None
    tiles = Tiles(shape, found[1:], set(func.params), machine, of=of)
    counts = (math.prod(shape.batch), tiles.panels, tiles.row_tiles)

    def task(number: tirx.Var) -> tirx.Stmt:
        return tiles.at(*unravel(number, counts))

    body = parallel(math.prod(counts), task, worth=worth_threads(work))
    return with_nest(func, body, [tiles.sums])


@dataclass(frozen=True)
class Product:
    """batch, rows, columns: extents of the step's axes, in this order, one column axis; what varies along columns is
    the same for all rows
    panel: columns of a packed panel, 0 where columns lie as they are
    """

    step: Step
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: int
    panel: int

    def point(self, batch: tirx.Expr, row: tirx.Expr, column: tirx.Expr) -> list[tirx.Expr]:
        return [*unravel(batch, self.batch), *unravel(row, self.rows), column]


def product_of(step: Step) -> Product | None:
    """The step as a product; None where it is none, or where its columns are not side by side."""
    if not step.reduced or not step.spatial or str(step.buffer.dtype) != "float32":
        return None
    *outer, column = step.spatial
    operands = (step.value.a, step.value.b) if isinstance(step.value, tirx.Mul) else (step.value,)
    along = [operand for operand in operands if uses(operand, column)]
    panel = int(step.annotations.get(PANEL, 0))
    if not along or not (panel or all(_side_by_side(operand, column) for operand in along)):
        return None
    batches = max((place + 1 for place, var in enumerate(outer) if any(uses(part, var) for part in along)), default=0)
    return Product(step, step.extents[:batches], step.extents[batches:-1], step.extents[-1], panel)


def _side_by_side(operand: tirx.Expr, column: tirx.Var) -> bool:
    """Whether neighbouring columns are neighbours in memory."""
    return all(
        load.indices[-1].same_as(column) and not any(uses(index, column) for index in list(load.indices)[:-1])
        for load in loads(operand)
        if any(uses(index, column) for index in load.indices)
    )


class Tiles:
    """The tiles of one product.

    sums: a tile's, in registers;  panels, row_tiles: how many tiles along columns and rows
    rows: how many of the product's rows are tiled, all where none are named;  of: as `tile` has it
    """

    def __init__(
        self, shape: Product, rest: Sequence[Step], outputs: Collection[tirx.Buffer], machine: Machine, rows: int = 0,
        of: object = None,
    ) -> None:  # fmt: skip
        self.shape, self.rest, self.outputs = shape, rest, outputs
        self.rows = rows or math.prod(shape.rows)
        depth, packed = math.prod(shape.step.lengths), bool(shape.panel)
        self.tile: Tile = tile(machine, self.rows, shape.columns, depth, width=shape.panel, padded=packed, of=of)
        self.row_tiles = math.ceil(self.rows / self.tile.rows)
        self.panels = math.ceil(shape.columns / self.tile.width)
        self.sums = tirx.decl_buffer((self.tile.rows * self.tile.width,), "float32", "sums", scope="local")

    def at(self, batch: tirx.Expr, panel: tirx.Expr, row_tile: tirx.Expr, first_row: int | tirx.Expr = 0) -> tirx.Stmt:
        """One tile of the rows from `first_row` on."""
        row, column = row_tile * self.tile.rows, panel * self.tile.width
        ragged = self.shape.columns % self.tile.width
        if self.rows % self.tile.rows:
            row = tirx.min(row, self.rows - self.tile.rows)
        if ragged and not self.shape.panel:
            column = tirx.min(column, self.shape.columns - self.tile.width)
        place = (batch, tirx.Var("row", "int64"), tirx.Var("column", "int64"))
        store = self._store(place, self.tile.width)
        if ragged and self.shape.panel:
            store = tirx.IfThenElse(panel < self.panels - 1, store, self._store(place, ragged))
        return sequence([
            tirx.Bind(place[1], row + first_row), tirx.Bind(place[2], column),
            self._clear(), self._accumulate(place), store,
        ])  # fmt: skip

    def _clear(self) -> tirx.Stmt:
        def clear(row: int, column: tirx.Expr) -> tirx.Stmt:
            return tirx.BufferStore(self.sums, self.shape.step.initial, [column + row * self.tile.width])

        return self._each(self.tile.width, clear)

    def _accumulate(self, place: Place, reduced: Sequence[tirx.Expr] = ()) -> tirx.Stmt:
        if len(reduced) < len(self.shape.step.lengths):
            length = self.shape.step.lengths[len(reduced)]
            return serial(length, lambda var: self._accumulate(place, [*reduced, var]))

        def add(row: int, column: tirx.Expr) -> tirx.Stmt:
            at = [column + row * self.tile.width]
            value = self.shape.step.at(self._point(place, row, column), reduced)
            return tirx.BufferStore(self.sums, self.shape.step.combined(tirx.BufferLoad(self.sums, at), value), at)

        return self._each(self.tile.width, add)

    def _store(self, place: Place, width: int) -> tirx.Stmt:
        """The first `width` columns of the tile, through what follows."""

        def element(row: int, column: tirx.Expr) -> tirx.Stmt:
            value = tirx.BufferLoad(self.sums, [column + row * self.tile.width])
            store = stored(self.shape.step, self.rest, self._point(place, row, column), value, self.outputs)
            return store if width >= self.tile.width else tirx.IfThenElse(column < width, store, None)

        return self._each(width, element)

    def _each(self, width: int, body: Callable[[int, tirx.Expr], tirx.Stmt]) -> tirx.Stmt:
        """The body for every vector of the tile's first `width` columns: its row, its columns."""

        def one(row: int, at: int) -> tirx.Stmt:
            return vector(self.tile.lanes, lambda lane: body(row, at + lane))

        places = [(row, at) for row in range(self.tile.rows) for at in range(0, width, self.tile.lanes)]
        return sequence([one(row, at) for row, at in places])

    def _point(self, place: Place, row: int, column: tirx.Expr) -> list[tirx.Expr]:
        batch, first_row, first_column = place
        return self.shape.point(batch, first_row + row, first_column + column)
