"""Which 3x3 convolutions Winograd may compute, how they are cut into blocks of tiles, and what that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules import conv_plan
from lwc.backends.tvm.schedules.conv_plan import (
    FLOAT_BYTES,
    FMA_LATENCY,
    FMA_PER_CYCLE,
    LOADS_PER_CYCLE,
    SPARE_REGISTERS,
    Conv,
)
from lwc.backends.tvm.schedules.winograd_filter import POINTS, TAPS

MOST_VECTORS = 4
UNROLL = 4
BLOCKS = (1, 2, 4, 8, 16)  # of so many rows of register tiles
# What a core reads of weights that other layers have driven out of its caches.
FAR_BYTES_PER_CYCLE = 12.0
# And of what is in its second cache: much of it while it computes.
L2_BYTES_PER_CYCLE = 64.0
# Moving a vector through a transformation takes as many cycles as its sums are long, with loads and stores.
TRANSFORM_CYCLES = 1.0
TILE_CYCLES = 15.0


@dataclass(frozen=True)
class Winograd:
    """F(size x size, 3 x 3) with rows x vectors accumulators of `lanes` floats; a row is a tile of the output.

    block: tiles that are transformed, multiplied and transformed back before the next ones
    """

    size: int
    rows: int
    vectors: int
    lanes: int
    block: int

    @property
    def channels(self) -> int:
        """Of a panel of weights."""
        return self.vectors * self.lanes

    @property
    def side(self) -> int:
        """Of a tile's input."""
        return self.size + TAPS - 1

    @property
    def points(self) -> int:
        """Products of matrices, one for each place of a transformed tile."""
        return self.side * self.side

    def grid(self, conv: Conv) -> tuple[int, int, int]:
        """Images, and tiles along their height and width."""
        return conv.batch, ceil(conv.out_height / self.size), ceil(conv.out_width / self.size)

    def tiles(self, conv: Conv) -> int:
        images, rows, columns = self.grid(conv)
        return images * rows * columns

    def blocks(self, conv: Conv) -> int:
        return ceil(self.tiles(conv) / self.block)

    def panels(self, conv: Conv) -> int:
        return ceil(conv.out_channels / self.channels)

    def shared(self, conv: Conv, machine: Machine) -> bool:
        """Whether a core's second cache holds the data of all tiles: cores then share out weights instead of tiles."""
        return self.tiles(conv) * self.points * conv.channels * FLOAT_BYTES <= machine.l2_bytes

    def held(self, conv: Conv, machine: Machine) -> bool:
        """Whether it also holds the weights that one block of tiles meets after the other."""
        panels = 1 if self.shared(conv, machine) else self.panels(conv)
        return self.points * conv.channels * self.channels * panels * FLOAT_BYTES <= machine.l2_bytes


def fits(conv: Conv, machine: Machine) -> bool:
    """Whether there is anything to gain: enough channels that transformations are the smaller part."""
    dense = (conv.kernel_height, conv.kernel_width) == (TAPS, TAPS) and conv.groups == 1 and not conv.planes
    steps = conv.stride_y, conv.stride_x, conv.dilation_y, conv.dilation_x
    return dense and steps == (1, 1, 1, 1) and min(conv.channels, conv.out_channels) >= machine.lanes


def candidates(conv: Conv, machine: Machine) -> Iterator[Winograd]:
    """All whose sums stay in registers, and whose blocks stay in half of the second cache."""
    free = machine.registers - SPARE_REGISTERS
    vectors = range(1, min(MOST_VECTORS, conv.out_channels // machine.lanes) + 1)
    for size, wide in product(POINTS, vectors):
        tiles = Winograd(size, 1, wide, machine.lanes, 1).tiles(conv)
        for rows in range(1, min((free - wide - 1) // wide, tiles) + 1):
            for block in dict.fromkeys(min(rows * count, tiles) for count in BLOCKS):
                found = Winograd(size, rows, wide, machine.lanes, block)
                if block == rows or _block_bytes(conv, found, machine) <= machine.l2_bytes // 2:
                    yield found


def cycles(conv: Conv, choice: Winograd | conv_plan.Tile, machine: Machine) -> float:
    """Estimated cycles of the busiest core, of either kind."""
    if isinstance(choice, conv_plan.Tile):
        far = conv.out_channels * conv.steps * FLOAT_BYTES / machine.cores / FAR_BYTES_PER_CYCLE
        return conv_plan.cycles(conv, choice, machine) + far
    blocks, panels = choice.blocks(conv), choice.panels(conv)
    shared = choice.shared(conv, machine)
    whole = choice.block * choice.points * choice.side * TRANSFORM_CYCLES
    forth, back = whole * ceil(conv.channels / choice.lanes), whole * choice.vectors
    tasks = ceil(blocks * panels / machine.cores) if shared else ceil(blocks / machine.cores) * panels
    panel = choice.points * conv.channels * choice.channels * FLOAT_BYTES
    read = panel + choice.points * conv.channels * choice.block * FLOAT_BYTES
    again = blocks if shared else ceil(blocks / machine.cores)
    far = panel * ceil(panels / (machine.cores if shared else 1)) * (1 if choice.held(conv, machine) else again)
    once = _products(conv, choice, machine) + back + read / L2_BYTES_PER_CYCLE
    return ceil(blocks / machine.cores) * forth + tasks * once + far / FAR_BYTES_PER_CYCLE


def _products(conv: Conv, choice: Winograd, machine: Machine) -> float:
    """Of a block's tiles with a panel of weights."""
    sums, loads = choice.rows * choice.vectors, choice.rows + choice.vectors
    step = max(sums / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, FMA_LATENCY) + 0.05 * loads
    return choice.points * ceil(choice.block / choice.rows) * (conv.channels * step + TILE_CYCLES + sums)


def _block_bytes(conv: Conv, choice: Winograd, machine: Machine) -> int:
    """Of a block's sums, and of its data where that is not there as a whole."""
    moved = 0 if choice.shared(conv, machine) else conv.channels
    return choice.block * choice.points * (moved + choice.channels) * FLOAT_BYTES
