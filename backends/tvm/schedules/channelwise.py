"""Depthwise convolution and pooling of NHWC data: every channel by itself, vectors along channels.

A tile of pixels stays in registers over the window. The last vector of the channels overlaps the one before, so that
none is partial; windows leave out what lies beyond the border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from tvm import tirx
from tvm.runtime import DataType

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import FLOAT_BYTES, Conv
from lwc.backends.tvm.schedules.epilogue import Epilogue, epilogue, first_block
from lwc.backends.tvm.schedules.rows import Rows
from lwc.backends.tvm.schedules.statements import (
    digits,
    local,
    parallel,
    piece_start,
    sequence,
    serial,
    store,
    unrolled,
    vector,
    with_nest,
    worth_threads,
)  # fmt: skip

WIDTHS = 4
# Of finding a task's place and a tile's, of a line from the second cache, or from beyond where neighbours in memory are
# not read one after the other.
TASK_CYCLES, TILE_CYCLES, LINE_CYCLES, FAR_LINE_CYCLES = 40, 20, 2, 5
# By type: what no value of it is below.
LOWEST: Mapping[str, float] = {"float32": -3.4028234663852886e38, "uint8": 0, "int8": -128}
BITS = "uint16"  # of bfloat16
# By annotation of the block: how a value and its weight come into what a window has found.
KINDS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "lwc.depthwise": lambda found, value, weight: found + as_float(value) * weight,
    "lwc.sum": lambda found, value, _: found + value,
    "lwc.maximum": lambda found, value, _: tirx.max(found, value),
}


def as_float(value: Any) -> Any:
    """float32 of a byte, a float32 or the bits of a bfloat16."""
    if str(value.ty.dtype) == BITS:
        return tirx.reinterpret("float32", value.astype("uint32") << tirx.const(16, "uint32"))
    return value.astype("float32")


def channelwise(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function that begins with the depthwise convolution of legalize_conv or a pooling of legalize_pooling."""
    s, block = first_block(func)
    kind = next((name for name in KINDS if name in s.get(block).annotations), None)
    sources = [region.source for region in s.get(block).reads]
    result = epilogue(s) if kind and sources else None
    if kind is None or result is None:
        return None
    data, *weight = sources
    window = Conv.of(s.get(block).annotations[kind])
    if window.pointwise:  # one channel, each value by itself
        return None
    dtype = str(s.get(block).writes[0].source.dtype)
    initial = tirx.const(LOWEST[dtype] if kind == "lwc.maximum" else 0, dtype)
    strip = machine.tuned.best(Fused.of(func), strips(window, machine), lambda strip: cost(strip, window, machine))
    kernel = Kernel(window, data, weight[0] if weight else None, initial, KINDS[kind], *result, machine, strip)
    return with_nest(func, kernel.body(), [])


@dataclass(frozen=True)
class Strip:
    """What a task makes of a vector of channels. rows: of the result;  pixels: of a tile, which registers hold"""

    rows: int
    pixels: int


def strips(window: Conv, machine: Machine) -> Iterator[Strip]:
    """All rows at once, half of them, and so on, in tiles of a few widths."""
    tall = {ceil(window.out_height / count) for count in (1, 2, 4, 8, 16, window.out_height)}
    wide = {ceil(window.row / count) for count in range(1, window.row + 1)}
    fitting = sorted(width for width in wide if width <= max(1, machine.registers // 2))[-WIDTHS:]
    return (Strip(rows, pixels) for rows in sorted(tall) for pixels in fitting)


def cost(strip: Strip, window: Conv, machine: Machine) -> float:
    """Estimated cycles of the busiest core."""
    lanes, taps = min(machine.lanes, window.channels), window.kernel_height * window.kernel_width
    chunks = ceil(window.out_height / strip.rows)
    tasks = window.batch * chunks * ceil(window.channels / lanes)
    own = window.height * window.width * window.channels * FLOAT_BYTES // min(chunks, machine.cores)
    line = LINE_CYCLES if own <= machine.l2_bytes or strip.rows == 1 else FAR_LINE_CYCLES
    reach = (strip.rows - 1) * window.stride_y + window.kernel_height
    tiles = strip.rows * ceil(window.row / strip.pixels)
    each = TASK_CYCLES + tiles * (TILE_CYCLES + strip.pixels * taps / 2) + line * reach * window.row * window.stride_x
    return ceil(tasks / machine.cores) * each


@dataclass(frozen=True)
class Kernel:
    """The loops of one window over every channel.

    data [n, h, w, c];  weight [ky, kx, c] or None;  out [n, oh, ow, c]
    initial: what a window begins with, of the type that it is computed in
    """

    window: Conv
    data: Any
    weight: Any
    initial: tirx.Expr
    combine: Callable[[Any, Any, Any], Any]
    out: Any
    epilogue: Epilogue
    machine: Machine
    strip: Strip

    @property
    def dtype(self) -> str:
        return str(self.initial.ty.dtype)

    @property
    def lanes(self) -> int:
        lanes = self.machine.vector_bytes // int(DataType(self.dtype).itemsize)
        while lanes > self.window.channels:
            lanes //= 2
        return lanes

    @property
    def pixels(self) -> int:
        return self.strip.pixels

    def body(self) -> tirx.Stmt:
        window, rows, height = self.window, Rows(self.window, self.pixels), self.strip.rows
        blocks, chunks = ceil(window.channels / self.lanes), ceil(window.out_height / height)

        def task(index: Any) -> tirx.Stmt:
            n, chunk, block = digits(index, [window.batch, chunks, blocks])
            c = piece_start(block, self.lanes, window.channels)
            first = piece_start(chunk, height, window.out_height)
            return serial(height, lambda y: rows.tiles(lambda x, border: self.tile(rows, n, first + y, x, c, border)))

        work = window.out_height * window.out_width * window.channels * window.kernel_height * window.kernel_width
        return parallel(window.batch * chunks * blocks, task, worth=worth_threads(window.batch * work))

    def tile(self, rows: Rows, n: Any, y: Any, x: Any, c: Any, border: int | None) -> tirx.Stmt:
        """Clear, accumulate, store. border: where the tile begins if its taps need to be told apart"""
        found, window = local(self.pixels * self.lanes, self.dtype), self.window
        spans = [(0, self.pixels) if border is None else rows.span(border, kx) for kx in range(window.kernel_width)]

        def tap(ky: Any, kx: int, i: Any, lane: Any) -> tirx.Stmt:
            row = y * window.stride_y + ky * window.dilation_y - window.top
            column = (x + i) * window.stride_x + kx * window.dilation_x - window.left
            weight = None if self.weight is None else self.weight[ky, kx, c + lane]
            at = i * self.lanes + lane
            return store(found, [at], self.combine(found[at], self.data[n, row, column, c + lane], weight))

        def finish(i: Any, lane: Any) -> tirx.Stmt:
            place = (n, y, x + i, c + lane)
            return store(self.out, place, self.epilogue(place, found[i * self.lanes + lane]))

        def kernel_row(ky: Any) -> tirx.Stmt:
            return sequence([
                self.each(span, lambda i, lane, kx=kx: tap(ky, kx, i, lane))  # type: ignore[misc]
                for kx, span in enumerate(spans) if span[0] < span[1]
            ])  # fmt: skip

        return sequence([
            tirx.AllocBuffer(found),
            self.each((0, self.pixels), lambda i, lane: store(found, [i * self.lanes + lane], self.initial)),
            rows.kernel_rows(y, kernel_row),
            self.each((0, self.pixels), finish),
        ])  # fmt: skip

    def each(self, span: tuple[int, int], body: Callable[[Any, Any], tirx.Stmt]) -> tirx.Stmt:
        """`body` of pixel and channel of a tile, in registers."""
        return unrolled(span[1] - span[0], lambda i: vector(self.lanes, lambda lane: body(i, lane)), span[0])
