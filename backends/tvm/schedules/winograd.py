"""3x3 convolutions of NHWC data by Winograd's minimal filtering, one nest with its epilogue in the store.

Blocks of tiles are transformed to [point][tile][channel]; at every point, a register tile of sums is tiles x channels
of packed weights over all input channels; the sums of a block and a panel of weights are transformed back while they
are in the cache. Cores share out the tiles; where the data of all tiles fits into a core's second cache, they share
out the panels, so that weights, the larger part then, are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tvm import tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import FLOAT_BYTES, Conv
from lwc.backends.tvm.schedules.epilogue import Epilogue, epilogue, first_block
from lwc.backends.tvm.schedules.statements import (
    digits,
    local,
    parallel,
    piece_start,
    prefetch,
    sequence,
    serial,
    stepped,
    store,
    unrolled,
    vector,
    whole_step,
    with_nest,
)  # fmt: skip
from lwc.backends.tvm.schedules.winograd_filter import Matrix, minimal
from lwc.backends.tvm.schedules.winograd_plan import UNROLL, Winograd

ANNOTATION = "lwc.winograd"
FIELDS = 5
LINE_BYTES = 64

# Of row and column in a tile, a lane, and the value there: what is done with it.
Put = Callable[[Any, Any, Any, Any], tirx.Stmt]


def winograd_convolution(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function that begins with the convolution of legalize_winograd, with what is fused behind it."""
    s, block = first_block(func)
    annotations = s.get(block).annotations
    sources = [region.source for region in s.get(block).reads]
    result = epilogue(s) if ANNOTATION in annotations else None
    if result is None:
        return None
    data, weight = sources
    numbers = [int(number) for number in annotations[ANNOTATION]]
    kernel = Kernel(Conv.of(numbers[:-FIELDS]), Winograd(*numbers[-FIELDS:]), data, weight, *result, machine)
    return with_nest(func, kernel.body(), [])


@dataclass(frozen=True)
class Kernel:
    """The loops of one convolution.

    data [n, h, w, c];  weight [panel, point, c, channels of a panel];  out [n, oh, ow, o]
    """

    conv: Conv
    choice: Winograd
    data: Any
    weight: Any
    out: Any
    epilogue: Epilogue
    machine: Machine

    def body(self) -> tirx.Stmt:
        """All blocks and panels, over cores."""
        blocks, panels = self.choice.blocks(self.conv), self.choice.panels(self.conv)
        if not self.choice.shared(self.conv, self.machine):
            def block(index: Any) -> tirx.Stmt:
                moved = self._moved(1)
                there = serial(panels, lambda panel: self.multiply(moved, 0, panel, self._start(index)))
                return sequence([tirx.AllocBuffer(moved), self.transform(moved, 0, self._start(index)), there])

            return parallel(blocks, block)

        moved = self._moved(blocks)

        def task(index: Any) -> tirx.Stmt:
            panel, block = digits(index, [panels, blocks])
            return self.multiply(moved, block, panel, self._start(block))

        forth = parallel(blocks, lambda block: self.transform(moved, block, self._start(block)))
        return sequence([tirx.AllocBuffer(moved), forth, parallel(panels * blocks, task)])

    def _moved(self, blocks: int) -> tirx.Buffer:
        """Transformed data."""
        return _scratch((blocks, self.choice.points, self.choice.block, self.conv.channels))

    def _start(self, block: Any) -> Any:
        """The first tile of a block: the last block overlaps the one before, so that none is partial."""
        return piece_start(block, self.choice.block, self.choice.tiles(self.conv))

    def _corner(self, tile: Any) -> tuple[Any, Any, Any]:
        """Image, row and column where a tile's output begins."""
        n, y, x = digits(tile, self.choice.grid(self.conv))
        return n, y * self.choice.size, x * self.choice.size

    def transform(self, moved: tirx.Buffer, block: Any, start: Any) -> tirx.Stmt:
        """B^T d B of all channels of a block's tiles."""
        conv, side, lanes = self.conv, self.choice.side, self.choice.lanes

        def tile(index: Any) -> tirx.Stmt:
            n, y, x = self._corner(start + index)
            y, x = y - conv.top, x - conv.left
            inside = tirx.all(y >= 0, x >= 0, y + side <= conv.height, x + side <= conv.width)

            def path(whole: bool) -> tirx.Stmt:
                return serial(-(-conv.channels // lanes), lambda k: self._forth(
                    moved, (block, index), (n, y, x), piece_start(k, lanes, conv.channels), whole
                ))  # fmt: skip

            return tirx.IfThenElse(inside, path(True), path(False))

        return serial(self.choice.block, tile)

    def _forth(
        self, moved: tirx.Buffer, place: tuple[Any, Any], corner: tuple[Any, Any, Any], at: Any, whole: bool
    ) -> tirx.Stmt:
        """The vector of channels from `at` on; whole: no part of the tile lies beyond the border"""
        conv, side, lanes = self.conv, self.choice.side, self.choice.lanes
        (block, tile), (n, y, x) = place, corner

        def there(i: Any, j: Any, lane: Any) -> Any:
            return self.data[n, y + i, x + j, at + lane]

        def moves(value: Callable[[int, Any], Any]) -> tirx.Stmt:
            return _both_ways(minimal(self.choice.size).data, value, lanes, lambda i, j, lane, result: store(
                moved, [block, i * side + j, tile, at + lane], result
            ))  # fmt: skip

        if whole:
            return moves(lambda k, lane: there(k // side, k % side, lane))
        read = local(side * side * lanes)

        def load(i: Any, j: Any) -> tirx.Stmt:
            inside = tirx.all(y + i >= 0, y + i < conv.height, x + j >= 0, x + j < conv.width)
            return vector(lanes, lambda lane: store(
                read, [(i * side + j) * lanes + lane], tirx.if_then_else(inside, there(i, j, lane), 0.0)
            ))  # fmt: skip

        # In loops: code for every place of a border would be large.
        loads = serial(side, lambda i: serial(side, lambda j: load(i, j)))
        return sequence([tirx.AllocBuffer(read), loads, moves(lambda k, lane: read[k * lanes + lane])])

    def multiply(self, moved: tirx.Buffer, block: Any, panel: Any, start: Any) -> tirx.Stmt:
        """A block's tiles times a panel of weights at all points, and back."""
        choice = self.choice
        sums = _scratch((choice.points, choice.block, choice.channels))

        def point(index: Any) -> tirx.Stmt:
            return serial(-(-choice.block // choice.rows), lambda k: self._product(
                sums, moved, block, panel, index, k
            ))  # fmt: skip

        first = piece_start(panel, choice.channels, self.conv.out_channels)
        back = serial(choice.block, lambda tile: self._back(sums, tile, start, first))
        return sequence([tirx.AllocBuffer(sums), serial(choice.points, point), back])

    def _product(
        self, sums: tirx.Buffer, moved: tirx.Buffer, block: Any, panel: Any, point: Any, use: Any
    ) -> tirx.Stmt:
        """Sums over all input channels, in registers. use: which rows of the block"""
        choice, width = self.choice, self.choice.channels
        first = piece_start(use, choice.rows, choice.block)
        acc = local(choice.rows * width)

        def each(body: Callable[[Any, Any], tirx.Stmt]) -> tirx.Stmt:
            return unrolled(choice.rows, lambda i: unrolled(
                choice.vectors, lambda j: vector(choice.lanes, lambda lane: body(i, j * choice.lanes + lane))
            ))  # fmt: skip

        def step(c: Any) -> tirx.Stmt:
            return each(lambda i, lane: store(
                acc, [i * width + lane],
                acc[i * width + lane] + moved[block, point, first + i, c] * self.weight[panel, point, c, lane],
            ))  # fmt: skip

        return sequence([
            tirx.AllocBuffer(acc),
            each(lambda i, lane: store(acc, [i * width + lane], 0.0)),
            stepped(self.conv.channels, UNROLL, step, self._ahead(panel, point, use)),
            each(lambda i, lane: store(sums, [point, first + i, lane], acc[i * width + lane])),
        ])  # fmt: skip

    def _ahead(self, panel: Any, point: Any, use: Any) -> Callable[[Any], tirx.Stmt] | None:
        """Fetches the weights of the next point, a part with every use of this one's; not where they stay."""
        if self.choice.held(self.conv, self.machine) and not self.choice.shared(self.conv, self.machine):
            return None
        choice, channels = self.choice, self.conv.channels
        rounds = channels // whole_step(channels, UNROLL)
        floats = LINE_BYTES // FLOAT_BYTES
        lines = -(-channels * choice.channels // (floats * rounds * -(-choice.block // choice.rows)))

        def fetch(round_: Any) -> tirx.Stmt:
            first = (use * rounds + round_) * lines
            return sequence([
                prefetch(self.weight, [panel, point + 1, 0, (first + line) * floats]) for line in range(lines)
            ])  # fmt: skip

        return fetch

    def _back(self, sums: tirx.Buffer, tile: Any, start: Any, first: Any) -> tirx.Stmt:
        """A^T m A of a tile and the panel of channels from `first` on, through the epilogue: pixels that exist."""
        conv, choice = self.conv, self.choice
        corner = self._corner(start + tile)

        def path(whole: bool) -> tirx.Stmt:
            return serial(choice.vectors, lambda k: self._pixels(sums, tile, corner, first, k * choice.lanes, whole))

        if conv.out_height % choice.size == conv.out_width % choice.size == 0:
            return path(True)
        _, y, x = corner
        inside = tirx.all(y + choice.size <= conv.out_height, x + choice.size <= conv.out_width)
        return tirx.IfThenElse(inside, path(True), path(False))

    def _pixels(
        self, sums: tirx.Buffer, tile: Any, corner: tuple[Any, Any, Any], first: Any, at: Any, whole: bool
    ) -> tirx.Stmt:
        """A vector of channels of every pixel of a tile."""
        conv, size, lanes = self.conv, self.choice.size, self.choice.lanes
        n, y, x = corner

        def write(i: Any, j: Any, lane: Any, result: Any) -> tirx.Stmt:
            place = (n, y + i, x + j, first + at + lane)
            return store(self.out, place, self.epilogue(place, result))

        def both(put: Put) -> tirx.Stmt:
            return _both_ways(minimal(size).out, lambda k, lane: sums[k, tile, at + lane], lanes, put)

        if whole:
            return both(write)
        kept = local(size * size * lanes)

        def some(i: Any, j: Any) -> tirx.Stmt:
            found = vector(lanes, lambda lane: write(i, j, lane, kept[(i * size + j) * lanes + lane]))
            return tirx.IfThenElse(tirx.all(y + i < conv.out_height, x + j < conv.out_width), found, None)

        moves = both(lambda i, j, lane, result: store(kept, [(i * size + j) * lanes + lane], result))
        return sequence([tirx.AllocBuffer(kept), moves, serial(size, lambda i: serial(size, lambda j: some(i, j)))])


def _both_ways(factors: Sequence[Matrix], value: Callable[[int, Any], Any], lanes: int, put: Put) -> tirx.Stmt:
    """M v M^T with M the product of the factors [rows, side], v given by place in [side, side], lane by lane."""
    side = factors[-1].shape[1]

    def body(lane: Any) -> tirx.Stmt:
        statements: list[tirx.Stmt] = []

        def named(result: Any) -> Any:
            if isinstance(result, tirx.Var):
                return result
            name = tirx.Var("v", "float32")
            statements.append(tirx.Bind(name, result))
            return name

        def moved(values: Sequence[Any]) -> Sequence[Any]:
            for factor in reversed(factors):
                values = [named(_combined(row, values)) for row in factor]
            return values

        downs = [moved([named(value(k * side + j, lane)) for k in range(side)]) for j in range(side)]
        for i in range(len(downs[0])):
            statements += [put(i, j, lane, result) for j, result in enumerate(moved([down[i] for down in downs]))]
        return sequence(statements)

    return vector(lanes, body)


def _combined(coefficients: Matrix, values: Sequence[Any]) -> Any:
    """The sum of coefficient times value, products by 0 and 1 left out."""
    places = [int(k) for k in np.flatnonzero(coefficients)]
    places.sort(key=lambda k: coefficients[k] < 0)

    def add(total: Any, k: int) -> Any:
        factor = float(coefficients[k])
        part = values[k] if abs(factor) == 1 else values[k] * tirx.const(abs(factor), "float32")
        if total is None:
            return part if factor > 0 else -part
        return total + part if factor > 0 else total - part

    return reduce(add, places, None)


def _scratch(shape: Sequence[int]) -> tirx.Buffer:
    return tirx.decl_buffer(shape, "float32", name="scratch", scope="global")
