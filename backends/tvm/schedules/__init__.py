"""Schedules for what models spend their time in, tried in order: the first rule that knows a function schedules it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tvm import tirx
from tvm.s_tir.schedule import ScheduleError

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.attention import attention
from lwc.backends.tvm.schedules.channelwise import channelwise
from lwc.backends.tvm.schedules.coded import coded, rounds
from lwc.backends.tvm.schedules.conv import convolution
from lwc.backends.tvm.schedules.int8 import bytes_product
from lwc.backends.tvm.schedules.leading import kernel_first
from lwc.backends.tvm.schedules.loops import loops
from lwc.backends.tvm.schedules.planes import planes
from lwc.backends.tvm.schedules.product import product
from lwc.backends.tvm.schedules.recurrent import recurrent
from lwc.backends.tvm.schedules.reduction import reduction
from lwc.backends.tvm.schedules.sampled import sampled
from lwc.backends.tvm.schedules.separable import separable
from lwc.backends.tvm.schedules.tiles import tiles
from lwc.backends.tvm.schedules.vector_math import vector_math
from lwc.backends.tvm.schedules.winograd import winograd_convolution

# A rule returns the scheduled function, or None where it does not know what the function computes.
Rule = Callable[[tirx.PrimFunc, Machine], tirx.PrimFunc | None]

RULES: tuple[Rule, ...] = (
    recurrent,
    tiles,
    separable,
    convolution,
    winograd_convolution,
    bytes_product,
    channelwise,
    attention,
    coded,
    rounds,
    product,
    reduction,
    planes,
    sampled,
    loops,
)


def scheduled(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """The function as the first fitting rule schedules it; as it is where none does."""
    with contextlib.suppress(ScheduleError):
        func = kernel_first(func)
    for rule in RULES:
        try:
            found = rule(func, machine)
        except ScheduleError:
            continue
        if found is not None:
            return vector_math(found)
    return vector_math(func)
