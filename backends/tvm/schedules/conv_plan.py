"""How a convolution is cut into register tiles: a small model of the processor, no measurement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from math import ceil

from lwc.backends.tvm.machine import Machine

FLOAT_BYTES = 4
FMA_PER_CYCLE = 2
LOADS_PER_CYCLE = 2
FMA_LATENCY = 4
L2_BYTES_PER_CYCLE = 32
# LLVM loads ahead: with fewer registers to spare it spills sums inside the innermost loop.
SPARE_REGISTERS = 3
# The first is mostly the fastest, which no estimate tells from the others: they are for tuning.
UNROLLS = (4, 8, 16)


@dataclass(frozen=True)
class Conv:
    """A convolution into NHWC; `groups` divides both channel counts. Sizes in elements.

    planes: 1 where the data is NCHW, of few channels and one group; 0 where it is NHWC
    """

    batch: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    dilation_y: int
    dilation_x: int
    groups: int
    planes: int = 0

    @staticmethod
    def of(numbers: list[int]) -> Conv:
        """From the numbers that `numbers` gives."""
        return Conv(*(int(number) for number in numbers))

    def numbers(self) -> list[int]:
        """All fields, in order: what an annotation can carry."""
        return [getattr(self, field.name) for field in fields(self)]

    @property
    def group_in(self) -> int:
        return self.channels // self.groups

    @property
    def group_out(self) -> int:
        return self.out_channels // self.groups

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a filter of its own."""
        return self.groups == self.channels == self.out_channels > 1

    @property
    def pointwise(self) -> bool:
        """Whether pixels are independent, so that rows need not be told apart."""
        alone = self.kernel_height * self.kernel_width * self.stride_x * self.stride_y == 1
        same = (self.out_height, self.out_width) == (self.height, self.width)
        return alone and same and not (self.depthwise or self.planes or self.top or self.left)

    @property
    def row(self) -> int:
        """Pixels that tiles are cut from."""
        return self.out_height * self.out_width if self.pointwise else self.out_width

    @property
    def steps(self) -> int:
        """Products summed for one output element."""
        return self.kernel_height * self.kernel_width * self.group_in


@dataclass(frozen=True)
class Tile:
    """pixels x vectors accumulators of `lanes` floats. unroll: steps of the reduction written out"""

    pixels: int
    vectors: int
    lanes: int
    unroll: int = UNROLLS[0]

    @property
    def channels(self) -> int:
        return self.vectors * self.lanes

    def blocks(self, conv: Conv) -> int:
        """How many tiles hold the output channels of a group."""
        return ceil(conv.group_out / self.channels)


def plan(conv: Conv, machine: Machine) -> Tile:
    """The tile measured fastest, or with the least estimated time; of equals the one that loads least."""
    return machine.tuned.best(conv, candidates(conv, machine), lambda tile: cycles(conv, tile, machine))


def candidates(conv: Conv, machine: Machine) -> Iterator[Tile]:
    """All tiles whose sums stay in registers."""
    lanes = machine.lanes
    while lanes // 2 >= conv.group_out:
        lanes //= 2
    free = machine.registers - SPARE_REGISTERS
    most = min(free, ceil(conv.group_out / lanes))
    return (
        Tile(pixels, vectors, lanes, unroll)
        for vectors, pixels, unroll in product(range(1, most + 1), range(1, min(free, conv.row) + 1), UNROLLS)
        if pixels * vectors + vectors + 1 <= free
    )


def cycles(conv: Conv, tile: Tile, machine: Machine) -> float:
    """Estimated cycles of the busiest core."""
    along = ceil(conv.row / tile.pixels)
    rows = conv.batch * (1 if conv.pointwise else conv.out_height)
    tasks = rows * conv.groups * tile.blocks(conv) * (along if conv.pointwise else 1)
    per_task = conv.steps * _step(conv, tile, machine) * (1 if conv.pointwise else along)
    return ceil(tasks / machine.cores) * per_task


def _step(conv: Conv, tile: Tile, machine: Machine) -> float:
    products, loads = tile.pixels * tile.vectors, tile.pixels + tile.vectors
    weights = tile.channels * 4
    beyond_l1 = weights * conv.steps > machine.l1_bytes // 2
    return max(
        products / FMA_PER_CYCLE,
        loads / LOADS_PER_CYCLE,
        FMA_LATENCY,
        weights / L2_BYTES_PER_CYCLE if beyond_l1 else 0,
    ) + 0.05 * loads  # fmt: skip
