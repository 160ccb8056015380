"""Products on AMX tiles: what follows a block of sums is applied while they are in the first cache."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.tile_kernels import TILES


def tiles(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Blocks of pixels in parallel; the last block's loops go inside, those before it are inlined into it."""
    s = Schedule(func)
    blocks = s.get_child_blocks(s.get_sblock("root"))
    if s.get(blocks[0]).name_hint != TILES:
        return None
    for block in blocks[1:-1]:
        s.compute_inline(block)
    n, y, x, o = s.get_loops(blocks[0])
    s.reverse_compute_at(blocks[-1], o, preserve_unit_loops=True)
    inner = s.get_loops(blocks[-1])[-1]
    extent = int(s.get(inner).extent)
    s.vectorize(s.split(inner, [None, machine.lanes])[1] if extent % machine.lanes == 0 else inner)
    s.parallel(s.fuse(n, y, x))
    return s.mod["main"]
