"""Direct convolution of NHWC data: an output tile of pixels x channels stays in registers over the whole reduction.

Weights come packed as [block of channels][ky][kx][input channel][channels of a block], so that a step multiplies one
scalar of the data with whole vectors of weights. Tiles at the borders leave out the products with padding; the last
tile of a row overlaps the one before, so that none is partial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import FLOAT_BYTES, Conv, Tile
from lwc.backends.tvm.schedules.epilogue import Epilogue, epilogue, first_block
from lwc.backends.tvm.schedules.rows import Rows
from lwc.backends.tvm.schedules.statements import (
    digits,
    local,
    parallel,
    prefetch,
    sequence,
    serial,
    stepped,
    store,
    unrolled,
    vector,
    whole_step,
    with_nest,
    worth_threads,
)  # fmt: skip

ANNOTATION = "lwc.conv"
LINE_BYTES = 64


def convolution(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function that begins with the convolution of legalize_conv, with what is fused behind it."""
    s, block = first_block(func)
    annotations = s.get(block).annotations
    sources = [region.source for region in s.get(block).reads]
    result = epilogue(s) if ANNOTATION in annotations and len(sources) == 2 else None
    if result is None:  # not a convolution, or one that reads nothing but padding
        return None
    data, weight = sources
    numbers = [int(number) for number in annotations[ANNOTATION]]
    kernel = Kernel(Conv.of(numbers[:-4]), Tile(*numbers[-4:]), data, weight, *result, machine)
    return with_nest(func, kernel.body(), [])


@dataclass(frozen=True)
class Kernel:
    """The loops of one convolution.

    data [n, h, w, c] or [n, c, h, w];  weight [block, ky, kx, c, channels of a tile];  out [n, oh, ow, o]
    """

    conv: Conv
    tile: Tile
    data: Any
    weight: Any
    out: Any
    epilogue: Epilogue
    machine: Machine

    @property
    def rows(self) -> Rows:
        return Rows(self.conv, self.tile.pixels)

    @property
    def task_rows(self) -> int:
        """Tasks along the pixels of a block of channels."""
        return self.rows.count if self.conv.pointwise else self.conv.out_height

    @property
    def weights_stay(self) -> bool:
        """Whether the second cache holds all weights: else every block of them is used for all rows at once."""
        return self.conv.out_channels * self.conv.steps * FLOAT_BYTES <= self.machine.l2_bytes // 2

    def body(self) -> tirx.Stmt:
        """Tasks over cores: rows of a block of channels, or tiles where rows need not be told apart."""
        conv, tile = self.conv, self.tile
        blocks, rows, stay = conv.groups * tile.blocks(conv), self.task_rows, self.weights_stay
        radix = [conv.batch, rows, blocks] if stay else [conv.batch, blocks, rows]

        def task(index: Any) -> tirx.Stmt:
            n, second, third = digits(index, radix)
            row, block = (second, third) if stay else (third, second)
            if conv.pointwise:
                return self.tile_at(n, block, 0, self.rows.start(row), None)
            return self.rows.tiles(lambda x, border: self.tile_at(n, block, row, x, border))

        worth = worth_threads(conv.batch * conv.out_height * conv.out_width * conv.out_channels * conv.steps)
        return parallel(conv.batch * rows * blocks, task, worth=worth)

    def tile_at(self, n: Any, block: Any, y: Any, x: Any, border: int | None) -> tirx.Stmt:
        """Clear, accumulate, store. border: where the tile begins if its taps need to be told apart"""
        sums = local(self.tile.pixels * self.tile.channels)
        clear = self.each(lambda i, lane: store(sums, [i * self.tile.channels + lane], 0.0))
        products = self.rows.kernel_rows(y, lambda ky: self.taps(sums, n, block, y, x, ky, border))
        return sequence([tirx.AllocBuffer(sums), clear, products, self.finish(sums, n, block, y, x)])

    def each(self, body: Callable[[Any, Any], tirx.Stmt], start: int = 0, stop: int | None = None) -> tirx.Stmt:
        """`body` of pixel and channel for all of a tile, in registers."""
        tile = self.tile
        count = (tile.pixels if stop is None else stop) - start
        return unrolled(count, lambda i: unrolled(
            tile.vectors, lambda j: vector(tile.lanes, lambda lane: body(i, j * tile.lanes + lane))
        ), start)  # fmt: skip

    def taps(self, sums: Any, n: Any, block: Any, y: Any, x: Any, ky: Any, border: int | None) -> tirx.Stmt:
        """All products of one kernel row."""
        conv, whole = self.conv, (0, self.tile.pixels)
        use = (0 if conv.pointwise else y * self.rows.count) + x // self.tile.pixels
        if border is None and conv.dilation_x == 1 and conv.groups == 1 and not conv.planes:
            return stepped(
                conv.kernel_width * conv.group_in, self.tile.unroll,
                lambda r: self.step(sums, n, block, y, x, ky, r // conv.group_in, r % conv.group_in, whole),
                self.ahead(block, use, ky, conv.kernel_width * conv.group_in),
            )  # fmt: skip

        def tap(kx: Any, span: tuple[int, int]) -> tirx.Stmt:
            return stepped(
                conv.group_in, self.tile.unroll, lambda c: self.step(sums, n, block, y, x, ky, kx, c, span),
                self.ahead(block, use, ky * conv.kernel_width + kx, conv.group_in),
            )  # fmt: skip

        if border is None:
            return serial(conv.kernel_width, lambda kx: tap(kx, whole))
        spans = [self.rows.span(border, kx) for kx in range(conv.kernel_width)]
        return sequence([tap(kx, span) for kx, span in enumerate(spans) if span[0] < span[1]])

    def ahead(self, block: Any, use: Any, loop: Any, extent: int) -> Callable[[Any], tirx.Stmt] | None:
        """Fetches the next block's weights, a part with every use of a block, where the uses are few.

        use: which tile of the block it is;  loop: which of the tile's loops of `extent` steps
        """
        conv, tile = self.conv, self.tile
        uses, blocks = self.rows.count * (1 if conv.pointwise else conv.out_height), conv.groups * tile.blocks(conv)
        step = whole_step(extent, tile.unroll)
        lines = step * tile.channels * FLOAT_BYTES // LINE_BYTES
        if self.weights_stay or blocks == 1 or not 1 < uses <= lines:
            return None
        lines = -(-lines // uses)
        following = tirx.min(block + 1, blocks - 1)

        def fetch(round_: Any) -> tirx.Stmt:
            first = (use * (conv.steps // step) + loop * (extent // step) + round_) * lines
            floats = LINE_BYTES // FLOAT_BYTES
            return sequence([
                prefetch(self.weight, [following, 0, 0, 0, (first + line) * floats]) for line in range(lines)
            ])  # fmt: skip

        return fetch

    def step(
        self, sums: Any, n: Any, block: Any, y: Any, x: Any, ky: Any, kx: Any, c: Any, span: tuple[int, int]
    ) -> tirx.Stmt:
        """One input channel of one tap times the weights of the tile."""
        conv, width = self.conv, self.tile.channels
        row = y * conv.stride_y + ky * conv.dilation_y - conv.top
        channel = c if conv.groups == 1 else block // self.tile.blocks(conv) * conv.group_in + c

        def add(i: Any, lane: Any) -> tirx.Stmt:
            column = (x + i) * conv.stride_x + kx * conv.dilation_x - conv.left
            pixel = self.pixel(row, column)
            place = (n, channel, *pixel) if conv.planes else (n, *pixel, channel)
            value = self.data[place] * self.weight[block, ky, kx, c, lane]
            return store(sums, [i * width + lane], sums[i * width + lane] + value)

        return self.each(add, *span)

    def pixel(self, y: Any, x: Any) -> tuple[Any, Any]:
        return (x // self.conv.width, x % self.conv.width) if self.conv.pointwise else (y, x)

    def finish(self, sums: Any, n: Any, block: Any, y: Any, x: Any) -> tirx.Stmt:
        """The epilogue of all channels that exist: the last block of a group may be partly padding."""
        conv, tile = self.conv, self.tile
        blocks = tile.blocks(conv)
        left = conv.group_out - (blocks - 1) * tile.channels
        group, index = (block // blocks, block % blocks) if conv.groups > 1 else (0, block)
        first = group * conv.group_out + index * tile.channels

        def piece(i: Any, at: int, lanes: int) -> tirx.Stmt:
            return vector(lanes, lambda lane: self.put(sums, n, y, x, i, first, at, lane))

        def channels(count: int) -> tirx.Stmt:
            return unrolled(
                tile.pixels, lambda i: sequence([piece(i, at, lanes) for at, lanes in pieces(count, tile.lanes)])
            )  # fmt: skip

        if left == tile.channels or blocks == 1:
            return channels(left)
        return tirx.IfThenElse(index < blocks - 1, channels(tile.channels), channels(left))

    def put(self, sums: Any, n: Any, y: Any, x: Any, i: Any, first: Any, at: int, lane: Any) -> tirx.Stmt:
        place = (n, *self.pixel(y, x + i), first + at + lane)
        return store(self.out, place, self.epilogue(place, sums[i * self.tile.channels + at + lane]))


def pieces(count: int, lanes: int) -> list[tuple[int, int]]:
    """`count` channels as vectors, at most `lanes` wide and powers of two: (first channel, lanes)."""
    found, at = [], 0
    while at < count:
        width = lanes
        while width > count - at:
            width //= 2
        found.append((at, width))
        at += width
    return found
