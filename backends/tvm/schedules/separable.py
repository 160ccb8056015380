"""A pointwise convolution and the depthwise one behind it in one nest: what lies between them stays in the cache.

A task makes some output rows of one block of channels from the input rows that they reach, so that what two tasks
reach both is computed twice. As in Howard et al., MobileNets (2017), the first layer of a pair widens the data: written
and read as a whole, it costs more than its products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules import conv as dense
from lwc.backends.tvm.schedules.channelwise import KINDS, Kernel, cost, strips
from lwc.backends.tvm.schedules.conv_plan import FLOAT_BYTES, Conv, Tile
from lwc.backends.tvm.schedules.epilogue import epilogue_of
from lwc.backends.tvm.schedules.rows import Rows
from lwc.backends.tvm.schedules.statements import digits, parallel, sequence, serial, store, with_nest

DEPTHWISE = "lwc.depthwise"


def separable(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A pointwise and a depthwise convolution of legalize_conv, with what is fused behind each."""
    s = Schedule(func)
    blocks = s.get_child_blocks(s.get_sblock("root"))
    kinds = [set(s.get(block).annotations) for block in blocks]
    second = next((k for k, kind in enumerate(kinds) if DEPTHWISE in kind), 0)
    if not second or dense.ANNOTATION not in kinds[0]:
        return None
    data, weight = (region.source for region in s.get(blocks[0]).reads)
    numbers = [int(number) for number in s.get(blocks[0]).annotations[dense.ANNOTATION]]
    filters = [region.source for region in s.get(blocks[second]).reads][1]
    window = Conv.of(s.get(blocks[second]).annotations[DEPTHWISE])
    wide = epilogue_of(s, blocks[0], blocks[1:second])
    result = epilogue_of(s, blocks[second], blocks[second + 1 :])
    if wide is None or result is None:
        return None
    pointwise = Pointwise(Conv.of(numbers[:-4]), Tile(*numbers[-4:]), data, weight, *wide, machine)
    strip = min(strips(window, machine), key=lambda strip: cost(strip, window, machine))
    nothing = tirx.const(0.0, "float32")
    depthwise = Kernel(window, None, filters, nothing, KINDS[DEPTHWISE], *result, machine, strip)
    pair = Pair(pointwise, depthwise, machine)
    chunk = machine.tuned.best(Fused.of(func), pair.candidates(), pair.cost)
    return with_nest(func, pair.body(chunk), [])


@dataclass(frozen=True)
class Chunk:
    """rows: that the depthwise convolution makes of what one task holds in the cache"""

    rows: int


@dataclass(frozen=True)
class Pointwise(dense.Kernel):
    """Stores a block of channels of the pixels from `start` on into `part` [pixels, channels of a tile]."""

    part: Any = None
    start: Any = 0

    def ahead(self, *_: Any) -> None:
        """Weights stay in the cache for all of a task."""

    def put(self, sums: Any, n: Any, y: Any, x: Any, i: Any, first: Any, at: int, lane: Any) -> tirx.Stmt:
        value = self.epilogue((n, *self.pixel(y, x + i), first + at + lane), sums[i * self.tile.channels + at + lane])
        return store(self.part, [x + i - self.start, at + lane], value)


@dataclass(frozen=True)
class Part:
    """What a task holds, found by where it would lie in the whole. row, channel: of its beginning"""

    part: Any
    width: int
    row: Any
    channel: Any

    def __getitem__(self, place: tuple[Any, Any, Any, Any]) -> Any:
        _, y, x, c = place
        return self.part[(y - self.row) * self.width + x, c - self.channel]


@dataclass(frozen=True)
class Pair:
    """The loops of both."""

    pointwise: Pointwise
    depthwise: Kernel
    machine: Machine

    def body(self, chunk: Chunk) -> tirx.Stmt:
        """Tasks over cores."""
        window, tile = self.depthwise.window, self.pointwise.tile
        chunks, blocks = ceil(window.out_height / chunk.rows), tile.blocks(self.pointwise.conv)

        def task(index: Any) -> tirx.Stmt:
            n, number, block = digits(index, [window.batch, chunks, blocks])
            y, row = tirx.Var("y", "int64"), tirx.Var("row", "int64")
            reach = self.reach(chunk)
            above = tirx.min(y * window.stride_y - window.top, window.height - reach)
            return sequence([
                tirx.Bind(y, tirx.min(tirx.const(0, "int64") + number * chunk.rows, window.out_height - chunk.rows)),
                tirx.Bind(row, tirx.max(above, 0)),
                self.task(n, block, y, row, chunk),
            ])  # fmt: skip

        return parallel(window.batch * chunks * blocks, task)

    def task(self, n: Any, block: Any, y: Any, row: Any, chunk: Chunk) -> tirx.Stmt:
        """Output rows from `y` on, from input rows from `row` on."""
        window, tile = self.depthwise.window, self.pointwise.tile
        pixels = self.reach(chunk) * window.width
        part = tirx.decl_buffer((pixels, tile.channels), "float32", "part")
        along = min(tile.pixels, pixels)
        start, last = row * window.width, pixels - along
        wide = replace(self.pointwise, tile=replace(tile, pixels=along), part=part, start=start)
        made = serial(
            ceil(pixels / along), lambda i: wide.tile_at(n, block, 0, start + tirx.min(i * along, last), None)
        )  # fmt: skip
        narrow = replace(self.depthwise, data=Part(part, window.width, row, block * tile.channels))
        rows = Rows(window, narrow.pixels)
        used = serial(chunk.rows, lambda r: serial(tile.vectors, lambda j: rows.tiles(
            lambda x, border: narrow.tile(rows, n, y + r, x, block * tile.channels + j * tile.lanes, border)
        )))  # fmt: skip
        return sequence([tirx.AllocBuffer(part), made, used])

    def reach(self, chunk: Chunk) -> int:
        """Input rows that the rows of a chunk read."""
        window = self.depthwise.window
        rows = (chunk.rows - 1) * window.stride_y + (window.kernel_height - 1) * window.dilation_y + 1
        return min(window.height, rows)

    def candidates(self) -> Iterator[Chunk]:
        """All rows at once, half of them, a third, and so on."""
        window = self.depthwise.window
        sizes = {ceil(window.out_height / count) for count in range(1, window.out_height + 1)}
        return (Chunk(rows) for rows in sorted(sizes, reverse=True))

    def cost(self, chunk: Chunk) -> float:
        """Products of the busiest core; more where they read what lies further away."""
        window, tile = self.depthwise.window, self.pointwise.tile
        tasks = window.batch * ceil(window.out_height / chunk.rows) * tile.blocks(self.pointwise.conv)
        pixels = self.reach(chunk) * window.width
        taps = window.kernel_height * window.kernel_width
        products = pixels * self.pointwise.conv.steps + chunk.rows * window.out_width * taps
        held = pixels * tile.channels * FLOAT_BYTES
        far = 1.0 if held <= self.machine.l1_bytes else 1.1 if held <= self.machine.l2_bytes // 2 else 1.5
        return ceil(tasks / self.machine.cores) * products * tile.vectors * far
