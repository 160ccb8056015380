"""Kernels that are one together: a pointwise convolution with the depthwise one that alone reads its result.

Worth it where the result is large: what two cores read of a small one lies in their caches anyway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Set
from typing import Any

import tvm
from tvm import IRModule, ir, relax, tirx
from tvm.relax.dpl import DFPattern, GlobalVarPattern, TuplePattern, is_op, wildcard
from tvm.relax.transform import FusionPattern
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv import ANNOTATION
from lwc.backends.tvm.schedules.conv_plan import FLOAT_BYTES, Conv, Tile
from lwc.backends.tvm.schedules.epilogue import epilogue, first_block
from lwc.backends.tvm.schedules.separable import DEPTHWISE

MOST_ARGUMENTS = 6
SMALL_PART = 4  # of the second cache


def pair_kernels(mod: IRModule, machine: Machine) -> IRModule:
    """The module, functions as FuseTIR left them, with such pairs as one function each."""
    functions = {var: func for var, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)}
    first = {var for var, func in functions.items() if _widens(func, machine)}
    second = {var for var, func in functions.items() if first and _depthwise(func)}
    if not first or not second:
        return mod
    patterns = [_pattern(first, second, count) for count in range(2, MOST_ARGUMENTS + 1)]
    t = relax.transform
    return tvm.transform.Sequential([
        t.FuseOpsByPattern(patterns, bind_constants=False), t.FuseTIR(), t.DeadCodeElimination()
    ])(mod)  # fmt: skip


def _pattern(widen: Set[ir.GlobalVar], depthwise: Set[ir.GlobalVar], count: int) -> FusionPattern:
    """count: arguments of the second kernel"""
    first = is_op("relax.call_tir")(GlobalVarPattern(), wildcard())
    arguments: list[DFPattern] = [first, *(wildcard() for _ in range(count - 1))]
    second = is_op("relax.call_tir")(GlobalVarPattern(), TuplePattern(arguments))

    def fits(context: Any) -> bool:
        one, other = (context.annotated_expr[name].args[0] for name in ("first", "second"))
        return one in widen and other in depthwise

    return FusionPattern("lwc.separable", second, {"first": first, "second": second}, fits)


def _widens(func: tirx.PrimFunc, machine: Machine) -> bool:
    """Whether it is a pointwise convolution in whole tiles of channels, its result large."""
    if not _known(func):
        return False
    s, block = first_block(func)
    numbers = s.get(block).annotations.get(ANNOTATION)
    if numbers is None:
        return False
    *sizes, pixels, vectors, lanes, unroll = (int(number) for number in numbers)
    conv, tile = Conv.of(sizes), Tile(pixels, vectors, lanes, unroll)
    large = conv.row * conv.out_channels * FLOAT_BYTES > machine.l2_bytes // SMALL_PART
    whole = conv.groups == 1 and conv.out_channels % tile.channels == 0
    return conv.pointwise and whole and large and epilogue(s) is not None


def _depthwise(func: tirx.PrimFunc) -> bool:
    """Whether it is a depthwise convolution of floats, which nothing behind it reads."""
    if not _known(func):
        return False
    s, block = first_block(func)
    if DEPTHWISE not in s.get(block).annotations:
        return False
    data = s.get(block).reads[0].source
    others = s.get_child_blocks(s.get_sblock("root"))[1:]
    read = any(region.source.same_as(data) for each in others for region in s.get(each).reads)
    return str(data.dtype) == "float32" and not read and epilogue(s) is not None


def _known(func: tirx.PrimFunc) -> bool:
    """Whether it has blocks to look at: functions that came scheduled may have none."""
    with contextlib.suppress(ScheduleError):
        s = Schedule(func)
        return bool(s.get_child_blocks(s.get_sblock("root")))
    return False
