"""Elementwise blocks done where their values are used, so that none is stored and read again."""

from __future__ import annotations

from collections.abc import Container

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from lwc.backends.tvm.schedules import vector_math

# A value that is used more than once is computed again if that takes no more loads, and no function.
CHEAP_LOADS = 4
# Functions that a value may take to be computed where it is used: written out as arithmetic within arithmetic, each
# multiplies the time that TVM takes to compile.
FUNCTIONS = 1


def inlined(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function without blocks that only prepare others' values; those used often, or dear to compute, stay."""
    s = Schedule(func)
    for block in s.get_child_blocks(s.get_sblock("root")):
        if _worth(s, block):
            try:
                s.compute_inline(block)
            except ScheduleError:
                continue
    return s.mod["main"]


def _worth(s: Schedule, block: SBlockRV) -> bool:
    body = s.get(block).body
    if not isinstance(body, tirx.BufferStore) or len(_calls(body.value, vector_math.RULES)) > FUNCTIONS:
        return False
    reads = 0
    for consumer in s.get_consumers(block):
        found: list[TensorLoad] = []
        tvm_ffi.structural_walk(s.get(consumer).body, (TensorLoad, found.append))
        reads += sum(load.source.same_as(body.buffer) for load in found)
    return reads == 1 or (reads > 1 and _cheap(body.value))


def _cheap(value: tirx.Expr) -> bool:
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(value, (TensorLoad, loads.append))
    return not _calls(value) and len(loads) <= CHEAP_LOADS


def _calls(value: tirx.Expr, names: Container[str] | None = None) -> list[Call]:
    """In an expression, of all functions or those of `names`."""
    found: list[Call] = []
    tvm_ffi.structural_walk(value, (Call, found.append))
    return [call for call in found if names is None or getattr(call.op, "name", "") in names]
