"""What no other rule knows: every block's outer loops in parallel, its innermost one in vectors where that is sound."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from lwc.backends.tvm.machine import Machine

SPATIAL = 0


def loops(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """Elementwise blocks in parallel vectors; reductions in parallel over what is not reduced."""
    s = Schedule(func)
    for block in s.get_child_blocks(s.get_sblock("root")):
        _schedule(s, block, machine)
    return s.mod["main"]


def _schedule(s: Schedule, block: SBlockRV, machine: Machine) -> None:
    around = s.get_loops(block)
    kinds = [int(var.iter_type) for var in s.get(block).iter_vars]
    if len(around) != len(kinds) or not around:
        return
    spatial = [loop for loop, kind in zip(around, kinds, strict=True) if kind == SPATIAL]
    if len(spatial) == len(around):
        _vectors(s, spatial, machine)
    elif spatial and around[: len(spatial)] == spatial:
        s.parallel(s.fuse(*spatial))


def _vectors(s: Schedule, spatial: list[LoopRV], machine: Machine) -> None:
    outer, inner = s.split(s.fuse(*spatial), [None, machine.lanes])
    s.vectorize(inner)
    s.parallel(outer)
