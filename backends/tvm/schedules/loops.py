"""What no other rule knows: blocks over free axes in parallel and vectors, all others as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.inline import inlined
from lwc.backends.tvm.schedules.statements import WORTH_ELEMENTS
from lwc.backends.tvm.schedules.steps import REDUCED, SPATIAL

# Parallel pieces for each core, where they may be uneven.
PIECES = 4


def loops(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Elementwise blocks in parallel vectors; reductions in parallel over what is not reduced.

    A block with other axes than free and reduced ones (scans, sorts, scatters), or with none, stays as it is: its
    order may matter.
    """
    s = Schedule(inlined(func))
    for block in s.get_child_blocks(s.get_sblock("root")):
        try:
            _schedule(s, block, machine)
        except ScheduleError:
            continue
    return s.mod["main"]


def _schedule(s: Schedule, block: SBlockRV, machine: Machine) -> None:
    around = s.get_loops(block)
    kinds = [int(var.iter_type) for var in s.get(block).iter_vars]
    if not around or len(around) != len(kinds) or not set(kinds) <= {SPATIAL, REDUCED}:
        return
    free = [loop for loop, kind in zip(around, kinds, strict=True) if kind == SPATIAL]
    if around[: len(free)] != free or not free:
        return
    extents = [_extent(s, loop) for loop in free]
    work = math.prod(_extent(s, loop) or PIECES for loop in around)
    if len(free) < len(around) or _may_trap(s, block):
        _parallel(s, free, extents, work, machine)
    else:
        _vectors(s, free, extents, work, machine)


def _may_trap(s: Schedule, block: SBlockRV) -> bool:
    """Whether it divides integers by values, which lanes behind the end of a tensor find to be zero."""
    found: list[tirx.Div | tirx.Mod | tirx.FloorDiv | tirx.FloorMod] = []
    kinds = (tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod)
    tvm_ffi.structural_walk(s.get(block).body, [(kind, found.append) for kind in kinds])
    return any("int" in str(each.ty.dtype) and not isinstance(each.b, tirx.IntImm) for each in found)


def _vectors(s: Schedule, free: list[LoopRV], extents: list[int], work: int, machine: Machine) -> None:
    """The last axis in vectors, together with those before it where it is short."""
    known = 0 not in extents
    while known and len(free) > 1 and extents[-1] % machine.lanes and extents[-1] < PIECES * machine.lanes:
        free, extents = [*free[:-2], s.fuse(*free[-2:])], [*extents[:-2], extents[-2] * extents[-1]]
    *outer, last = free
    blocks, inner = s.split(last, [None, machine.lanes])
    s.vectorize(inner)
    _parallel(s, [*outer, blocks], [*extents[:-1], -(-extents[-1] // machine.lanes)], work, machine)


def _parallel(s: Schedule, free: Sequence[LoopRV], extents: Sequence[int], work: int, machine: Machine) -> None:
    """As many outer loops over the cores as give each some pieces; none where there is too little to do."""
    if 0 not in extents and work < WORTH_ELEMENTS:
        return
    enough = (count for count in range(1, len(free)) if math.prod(extents[:count]) >= PIECES * machine.cores)
    count = next(enough, len(free))
    s.parallel(s.fuse(*free[:count]) if count > 1 else free[0])


def _extent(s: Schedule, loop: LoopRV) -> int:
    """Of a loop; 0 where it is known only when running."""
    extent = s.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else 0
