"""How a product is cut into blocks of AMX tiles, and its weights packed for them.

Intel 64 and IA-32 Architectures Software Developer's Manual, chapter "Programming with Intel AMX".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.backends.tvm.tuned import UNTUNED, Tuned

ROWS, BYTES, REGISTERS = 16, 64, 8
OUTPUTS = 16  # of a tile of sums: 64 bytes of int32 or float32
START, LOOP = 40, 8  # cycles to begin and store a block, and of a step's loop


@dataclass(frozen=True)
class Product:
    """A convolution over data that is padded already, or a matrix product: one row of pixels, kernel 1 x 1.

    height, width: of the output;  inputs, outputs: channels;  kernel_y, kernel_x, stride: as in Conv
    dtype: of the data: uint8, int8, or uint16 for the bits of bfloat16
    """

    height: int
    width: int
    inputs: int
    outputs: int
    dtype: str
    kernel_y: int = 1
    kernel_x: int = 1
    stride_y: int = 1
    stride_x: int = 1

    @property
    def row_bytes(self) -> int:
        """Bytes below one row of the kernel."""
        return self.kernel_x * self.inputs * self.itemsize

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def steps(self) -> int:
        """Tiles along the reduction, for each row of the kernel."""
        return -(-self.row_bytes // BYTES)


@dataclass(frozen=True)
class Block:
    """What is summed at once: down x across tiles of `rows` pixels, times `wide` tiles of outputs."""

    rows: int
    down: int
    across: int
    wide: int

    @property
    def pixels(self) -> int:
        """Pixels side by side."""
        return self.rows * self.across

    @property
    def channels(self) -> int:
        return self.wide * OUTPUTS

    def cycles(self) -> float:
        """Of one step: one tile multiplication takes a cycle a row, and two rows are loaded in a cycle."""
        tiles = self.down * self.across
        multiplied = tiles * self.wide * self.rows
        loaded = (tiles * self.rows + self.wide * ROWS) / 2
        return max(multiplied, loaded) + LOOP

    def cost(self, product: Product) -> float:
        """Cycles for the whole output, tiles that reach beyond it included."""
        height, width = covered(product, self)
        blocks = height // self.down * (width // self.pixels) * -(-product.outputs // self.channels)
        return blocks * (self.cycles() * product.kernel_y * product.steps + START)


def best_block(product: Product, tuned: Tuned = UNTUNED) -> Block:
    """The block measured fastest, or the cheapest that fits the registers."""
    return tuned.best(product, blocks(product), lambda block: (block.cost(product), block.rows * block.wide))


def blocks(product: Product) -> Iterator[Block]:
    """All blocks that fit the registers: sums, one tile of data, and the weights of a step."""
    for rows in range(1, min(ROWS, product.width) + 1):
        for wide in (1, 2) if product.outputs > OUTPUTS else (1,):
            for down in range(1, min(6, product.height) + 1):
                for across in range(1, 7):
                    if down * across * wide + wide + 1 <= REGISTERS:
                        yield Block(rows, down, across, wide)


def padded_shape(product: Product, block: Block) -> tuple[int, int]:
    """Height and width that the data must have for tiles to stay within it, the last step's bytes included."""
    height, width = covered(product, block)
    rows = (height - 1) * product.stride_y + product.kernel_y
    columns = (width - 1) * product.stride_x + product.kernel_x
    beyond = product.steps * BYTES - product.row_bytes
    return rows - (-beyond // (columns * product.inputs * product.itemsize)), columns


def covered(product: Product, block: Block) -> tuple[int, int]:
    """Height and width of the output in whole blocks."""
    return -(-product.height // block.down) * block.down, -(-product.width // block.pixels) * block.pixels


def configuration(block: Block) -> NDArray[np.uint8]:
    """The 64 bytes that LDTILECFG takes: sums first, then the tile of data, then those of weights."""
    found = np.zeros(64, np.uint8)
    found[0] = 1
    sums = block.down * block.across * block.wide
    rows = [block.rows] * sums + [0] * (REGISTERS - 1 - block.wide - sums) + [block.rows] + [ROWS] * block.wide
    found[48:56] = rows
    found[16:32].view(np.uint16)[:] = [BYTES if each else 0 for each in rows]
    return found


def packed_weight(weight: NDArray[Any], product: Product, block: Block) -> NDArray[Any]:
    """weight [o, ky, kx, c], int8 or bits of bfloat16 -> [tiles of outputs, ky, steps, 16, 64 bytes], zeros beyond.

    Four int8, or two bfloat16, of one output lie side by side, as the instructions take them.
    """
    together, per_step = 4 // product.itemsize, BYTES // product.itemsize
    tiles = -(-product.outputs // block.channels) * block.wide
    padded = np.zeros((tiles * OUTPUTS, product.kernel_y, product.steps * per_step), weight.dtype)
    padded[: product.outputs, :, : product.kernel_x * product.inputs] = weight.reshape(*weight.shape[:2], -1)
    split = padded.reshape(tiles, OUTPUTS, product.kernel_y, product.steps, ROWS, together).transpose(0, 2, 3, 4, 1, 5)
    return np.ascontiguousarray(split).reshape(tiles, product.kernel_y, product.steps, ROWS, per_step)
