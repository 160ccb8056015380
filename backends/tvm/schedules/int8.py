"""Convolutions and matrix products of bytes: a tile of 32-bit sums stays in registers over the whole reduction.

Data comes padded, so that the bytes below a row of the kernel lie side by side in NHWC: they are taken a few at a time,
as many as the machine's instruction multiplies, and weights are packed to match. A matrix product is a row of pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv import Kernel
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.backends.tvm.schedules.epilogue import epilogue, first_block
from lwc.backends.tvm.schedules.int8_dot import Dot
from lwc.backends.tvm.schedules.statements import digits, local, sequence, stepped, store, unrolled, with_nest

ANNOTATION = "lwc.int8"


def bytes_product(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function that begins with a convolution or product of legalize_int8, with what is fused behind it."""
    s, block = first_block(func)
    found = s.get(block)
    if ANNOTATION not in found.annotations:
        return None
    data, weight = (region.source for region in found.reads)
    outer = tuple(int(size) for size in found.writes[0].source.shape)[:-1]
    result = epilogue(s)
    if result is None:
        return None
    numbers = [int(number) for number in found.annotations[ANNOTATION]]
    kernel = Bytes(
        Conv.of(numbers[:-4]), Tile(*numbers[-4:]), data, weight, *result, machine, outer,
        Dot.of(machine, str(data.dtype)),
    )  # fmt: skip
    return with_nest(func, kernel.body(), [])


@dataclass(frozen=True)
class Sums:
    """What tuning knows the kernel by. data: of type uint8 or int8;  together: bytes that are multiplied at once"""

    conv: Conv
    data: str
    together: int


@dataclass(frozen=True)
class Bytes(Kernel):
    """data [..., channels], padded;  weight [block, ky, steps, channels of a tile x together];  out [*outer, o]"""

    outer: tuple[int, ...]
    dot: Dot

    def tile_at(self, n: Any, block: Any, y: Any, x: Any, border: int | None) -> tirx.Stmt:
        """Clear, accumulate, store."""
        sums = local(self.tile.pixels * self.tile.channels, "int32")
        clear = self.each(lambda i, lane: store(sums, [i * self.tile.channels + lane], 0))
        steps = int(self.weight.shape[2])
        products = self.rows.kernel_rows(y, lambda ky: stepped(
            steps, self.tile.unroll, lambda step: self.multiplied(sums, n, block, y, x, ky, step)
        ))  # fmt: skip
        return sequence([tirx.AllocBuffer(sums), clear, products, self.finish(sums, n, block, y, x)])

    def multiplied(self, sums: Any, n: Any, block: Any, y: Any, x: Any, ky: Any, step: Any) -> tirx.Stmt:
        """The bytes of one step, of every pixel, times the weights of the tile."""
        conv, tile, dot = self.conv, self.tile, self.dot
        row = y * conv.stride_y + ky * conv.dilation_y

        def add(i: Any, j: Any) -> tirx.Stmt:
            at = [_side_by_side(i * tile.channels + j * dot.lanes, dot.lanes)]
            place = [n, row, (x + i) * conv.stride_x, _side_by_side(step * dot.together, dot.together)]
            lanes = dot.lanes * dot.together
            weights = tirx.BufferLoad(self.weight, [block, ky, step, _side_by_side(j * lanes, lanes)])
            data = tirx.BufferLoad(self.data, [0] * (len(self.data.shape) - 4) + place[-len(self.data.shape):])
            return tirx.BufferStore(sums, dot.add(tirx.BufferLoad(sums, at), data, weights), at)

        return unrolled(tile.pixels, lambda i: unrolled(tile.vectors, lambda j: add(i, j)))

    def put(self, sums: Any, n: Any, y: Any, x: Any, i: Any, first: Any, at: int, lane: Any) -> tirx.Stmt:
        conv = self.conv
        pixel = (n * conv.out_height + y) * conv.out_width + x + i
        place = (n, y, x + i) if not conv.pointwise else digits(pixel, self.outer)
        value = sums[i * self.tile.channels + at + lane]
        return store(self.out, [*place, first + at + lane], self.epilogue([*place, first + at + lane], value))


def _side_by_side(first: Any, count: int) -> Any:
    start = tirx.const(first, "int64") if isinstance(first, int) else first
    return tirx.Ramp(start, tirx.const(1, "int64"), count) if count > 1 else start


def steps(conv: Conv, together: int) -> int:
    """Into how many steps the bytes below a row of the kernel are cut."""
    return math.ceil(conv.kernel_width * conv.channels / together)
