"""Products on AMX tiles: what follows a block of sums is applied while they are in the first cache."""

from __future__ import annotations

import math

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.tile_kernels import TILES


def tiles(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Blocks of sums in parallel, what is larger of data and weights read once; the last block's loops go inside."""
    s = Schedule(func)
    blocks = s.get_child_blocks(s.get_sblock("root"))
    if s.get(blocks[0]).name_hint != TILES:
        return None
    for block in blocks[1:-1]:
        s.compute_inline(block)
    n, y, x, o = s.get_loops(blocks[0])
    data, weights = (region.source for region in list(s.get(blocks[0]).reads)[:2])
    order = [o, n, y, x] if _bytes(weights) > _bytes(data) else [n, y, x, o]
    s.reorder(*order)
    s.reverse_compute_at(blocks[-1], order[-1], preserve_unit_loops=True)
    _vectorize(s, s.get_loops(blocks[-1])[-1], machine)
    s.parallel(s.fuse(*(order[:1] if order[0] is o else order[:3])))
    return s.mod["main"]


def _bytes(buffer: tirx.Buffer) -> int:
    return math.prod(int(size) for size in buffer.shape) * int(tvm.runtime.DataType(str(buffer.dtype)).itemsize)


def _vectorize(s: Schedule, loop: LoopRV, machine: Machine) -> None:
    whole = int(s.get(loop).extent) % machine.lanes == 0
    s.vectorize(s.split(loop, [None, machine.lanes])[1] if whole else loop)
