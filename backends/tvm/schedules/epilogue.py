"""What FuseOps put behind a kernel (bias, residual, activation) as a function that the kernel's store applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

# Of the indices of an output element and the kernel's sum there: the value to store.
Epilogue = Callable[[Sequence[Any], Any], ir.Expr]


def first_block(func: tirx.PrimFunc) -> tuple[Schedule, SBlockRV]:
    """A schedule of the function, and the first of its blocks."""
    s = Schedule(func)
    return s, s.get_child_blocks(s.get_sblock("root"))[0]


def epilogue(s: Schedule) -> tuple[tirx.Buffer, Epilogue] | None:
    """Where the function of `s` stores, and what; None where an element depends on more than its own sum."""
    kernel, *after = s.get_child_blocks(s.get_sblock("root"))
    sums = _stored(s, kernel).buffer
    if not after:
        return sums, lambda _, value: value
    for block in after[:-1]:
        s.compute_inline(block)
    stored, variables = _stored(s, after[-1]), [it.var for it in s.get(after[-1]).iter_vars]
    if not _elementwise(stored, sums, variables):
        return None

    def apply(indices: Sequence[Any], value: Any) -> ir.Expr:
        def replace(load: ir.TensorLoad) -> ir.Expr:
            return value if load.source.same_as(sums) else load

        new = dict(zip(variables, (tirx.const(i, "int64") if isinstance(i, int) else i for i in indices), strict=True))
        inlined = tvm_ffi.structural_map(stored.value, [(ir.TensorLoad, replace)])
        return tvm_ffi.structural_map(inlined, [(tirx.Var, lambda var: new.get(var, var))])

    return stored.buffer, apply


def _stored(s: Schedule, block: SBlockRV) -> tirx.BufferStore:
    body = s.get(block).body
    assert isinstance(body, tirx.BufferStore)
    return body


def _elementwise(stored: tirx.BufferStore, sums: tirx.Buffer, variables: Sequence[tirx.Var]) -> bool:
    loads: list[ir.TensorLoad] = []
    tvm_ffi.structural_walk(stored.value, [(ir.TensorLoad, loads.append)])
    places = [stored.indices, *(load.indices for load in loads if load.source.same_as(sums))]
    return all(
        len(place) == len(variables) and all(i.same_as(v) for i, v in zip(place, variables, strict=True))
        for place in places
    )
