"""How large a tile of a matrix product is: its sums stay in registers over the whole reduction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lwc.backends.tvm.machine import Machine

# Two fused multiply-adds and two loads a cycle, a result after four: x86 servers since Haswell, ARM's large cores.
PORTS, LATENCY = 2, 4
# Bytes a cycle that the second-level cache gives for long.
BYTES, L2_BYTES = 4, 16
# What a tile costs besides its sums: clearing them, the epilogue, finding its place.
TILE_CYCLES = 30
MOST_ROWS, MOST_VECTORS = 16, 8


@dataclass(frozen=True)
class Sizes:
    """Of a product whose right operand is packed."""

    rows: int
    columns: int
    depth: int


@dataclass(frozen=True)
class Tile:
    """rows x vectors x lanes sums; a panel is the right operand's `width` columns over the whole reduction."""

    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes


def tile(
    machine: Machine, rows: int, columns: int, depth: int, *, width: int = 0, padded: bool = True, of: object = None
) -> Tile:
    """The tile that was measured fastest for a product of `rows` x `columns` sums over `depth`, or takes fewest cycles.

    width: of a panel that is packed already;  padded: whether a panel may reach beyond the last column
    of: what tuning knows a product by whose right operand is not packed; None where it is not tuned
    """
    lanes = _lanes(machine, columns, padded=padded) if not width else math.gcd(width, machine.lanes)
    candidates = [
        Tile(height, vectors, lanes)
        for height in range(1, min(rows, MOST_ROWS) + 1)
        for vectors in ([width // lanes] if width else range(1, MOST_VECTORS + 1))
        if _fits(machine, height, vectors) and (width or padded or vectors * lanes <= columns)
    ]
    def cost(found: Tile) -> float:
        return _cycles(found, machine, rows, columns, depth)

    if padded:
        of = Sizes(rows, columns, depth)
    return min(candidates, key=cost) if of is None else machine.tuned.best(of, candidates, cost, again=width > 0)


def _lanes(machine: Machine, columns: int, *, padded: bool) -> int:
    """Neighbouring columns in a register; no more than there are where nothing pads them."""
    return machine.lanes if padded else min(machine.lanes, 1 << (columns.bit_length() - 1))


def _fits(machine: Machine, rows: int, vectors: int) -> bool:
    """Sums, one row's vectors and the value that multiplies them, all in registers."""
    return rows * vectors + vectors + 1 <= machine.registers or rows == vectors == 1


def _cycles(tile: Tile, machine: Machine, rows: int, columns: int, depth: int) -> float:
    sums, loads = tile.rows * tile.vectors, tile.rows + tile.vectors
    panel = tile.width * BYTES
    streamed = panel / L2_BYTES if panel * depth > machine.l1_bytes / 2 else 0.0
    step = max(sums / PORTS, loads / PORTS, streamed, LATENCY)
    tiles = math.ceil(rows / tile.rows) * math.ceil(columns / tile.width)
    return math.ceil(tiles / machine.cores) * (step * depth + TILE_CYCLES + 2 * sums)
