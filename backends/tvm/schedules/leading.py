"""What FuseOps puts before a kernel though the kernel does not read it: residuals that its epilogue adds."""

from __future__ import annotations

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from lwc.backends.tvm.tile_kernels import TILES

ANNOTATIONS = "lwc."


def kernel_first(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with elementwise blocks before its kernel computed where they are read; others as they are.

    Raises ScheduleError where one cannot be.
    """
    s = Schedule(func)
    blocks = s.get_child_blocks(s.get_sblock("root"))
    place = next((k for k, block in enumerate(blocks) if _is_kernel(s, block)), 0)
    for block in blocks[:place]:
        s.compute_inline(block)
    return s.mod["main"] if place else func


def _is_kernel(s: Schedule, block: SBlockRV) -> bool:
    found = s.get(block)
    return found.name_hint == TILES or any(str(name).startswith(ANNOTATIONS) for name in found.annotations or {})
