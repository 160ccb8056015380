"""Schedules that TVM's MetaSchedule draws: what there is to tune in functions that no rule of ours knows.

Shao et al., Tensor Program Optimization with Probabilistic Programs (2022): rules write sketches of a schedule, sizes
and places left open, and draw these at random. A draw is known by its number alone, being the same one whenever the
same function is scheduled for the same machine by the same version of TVM.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import IRModule, tirx
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.meta_schedule.logging import get_logging_func
from tvm.s_tir.schedule import Trace

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.statements import WORTH_PRODUCTS
from lwc.backends.tvm.schedules.steps import REDUCED, SPATIAL

DRAWS = 128
SEED = 1
SPREAD, SEEDS = 0x9E3779B1, (1 << 31) - 1  # neighbouring seeds draw alike


@dataclass(frozen=True)
class Draw:
    """number: 0 is what `loops` makes"""

    number: int


def sampled(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A function with a reduction worth it, as the draw that was measured fastest has it; None where none was."""
    if not _worth(func):
        return None
    draws = (Draw(number) for number in range(DRAWS + 1))
    draw = machine.tuned.best(Fused.of(func), draws, lambda draw: draw.number)
    return drawn(func, machine, draw.number) if draw.number else None


def drawn(func: tirx.PrimFunc, machine: Machine, number: int) -> tirx.PrimFunc:
    """Every sketch in turn, each time with other sizes. Raises ValueError where these do not fit the machine."""
    mod = IRModule({"main": func})
    space = ms.space_generator.PostOrderApply(sch_rules="llvm", postprocs="llvm", mutator_probs={})
    _prepare(space, mod, machine)
    sketches = space.generate_design_space(mod)
    s = Schedule(mod, seed=number * SPREAD % SEEDS)
    Trace(sketches[number % len(sketches)].trace.insts, {}).apply_to_schedule(s, remove_postproc=True)
    s.enter_postproc()
    if not all(process.apply(s) for process in space.postprocs):
        raise ValueError(f"These sizes do not fit: draw {number}.")
    return s.mod["main"]


def _prepare(space: Any, mod: IRModule, machine: Machine) -> None:
    """Tell the rules of the space what they write for.

    It is TuneContext's constructor without its import of TVM's tensor intrinsics, which takes a minute in each process
    for what these rules do not use.
    """
    context = ms.TuneContext.__new__(ms.TuneContext)
    logged = get_logging_func(logging.getLogger(__name__))
    context.__init_handle_by_constructor__(
        _ffi_api.TuneContext, mod, tvm.target.Target(machine.llvm()), space, None, "main", 1, SEED, logged
    )
    _ffi_api.TuneContextInitialize(context)


def _worth(func: tirx.PrimFunc) -> bool:
    """Whether it has fixed sizes, writes its last parameter alone, and sums enough."""
    s = Schedule(func)
    blocks = [s.get(block) for block in s.get_child_blocks(s.get_sblock("root"))]
    axes = [axis for block in blocks for axis in block.iter_vars]
    kinds = {int(axis.iter_type) for axis in axes}
    if REDUCED not in kinds or not kinds <= {SPATIAL, REDUCED}:
        return False
    if not all(isinstance(axis.dom.extent, tirx.IntImm) for axis in axes):
        return False
    stored = {region.source for block in blocks for region in block.writes} & set(func.params)
    return stored == {func.params[-1]} and Fused.of(func).work >= WORTH_PRODUCTS
