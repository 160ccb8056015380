"""What FuseOps put behind a kernel (bias, residual, activation) as a function that the kernel's store applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from lwc.backends.tvm.schedules.statements import index
from lwc.backends.tvm.schedules.steps import loads, replaced

# Of the indices of an output element and the kernel's sum there: the value to store.
Epilogue = Callable[[Sequence[Any], Any], ir.Expr]


def first_block(func: tirx.PrimFunc) -> tuple[Schedule, SBlockRV]:
    """A schedule of the function, and the first of its blocks."""
    s = Schedule(func)
    return s, s.get_child_blocks(s.get_sblock("root"))[0]


def epilogue(s: Schedule) -> tuple[tirx.Buffer, Epilogue] | None:
    """Where the function of `s` stores, and what; None where an element depends on more than its own sum."""
    kernel, *after = s.get_child_blocks(s.get_sblock("root"))
    return epilogue_of(s, kernel, after)


def epilogue_of(s: Schedule, kernel: SBlockRV, after: Sequence[SBlockRV]) -> tuple[tirx.Buffer, Epilogue] | None:
    """The same of the blocks between a kernel and the next."""
    sums = _stored(s, kernel).buffer
    if not after:
        return sums, lambda _, value: value
    for block in after[:-1]:
        s.compute_inline(block)
    stored, variables = _stored(s, after[-1]), [it.var for it in s.get(after[-1]).iter_vars]
    if not _elementwise(stored, sums, variables):
        return None

    def apply(indices: Sequence[Any], value: Any) -> ir.Expr:
        new = dict(zip(variables, (index(i) if isinstance(i, int) else i for i in indices), strict=True))
        return replaced(stored.value, new, lambda load: value if load.source.same_as(sums) else load)

    return stored.buffer, apply


def _stored(s: Schedule, block: SBlockRV) -> tirx.BufferStore:
    body = s.get(block).body
    assert isinstance(body, tirx.BufferStore)
    return body


def _elementwise(stored: tirx.BufferStore, sums: tirx.Buffer, variables: Sequence[tirx.Var]) -> bool:
    """Whether each element is made of its own sum, and each sum makes one: padding makes more, cropping fewer."""
    shapes = stored.buffer.shape, sums.shape
    if len(shapes[0]) != len(shapes[1]) or not all(_same(a, b) for a, b in zip(*shapes, strict=True)):
        return False
    places = [stored.indices, *(load.indices for load in loads(stored.value) if load.source.same_as(sums))]
    return all(
        len(place) == len(variables) and all(i.same_as(v) for i, v in zip(place, variables, strict=True))
        for place in places
    )


def _same(a: Any, b: Any) -> bool:
    """Whether two sizes are one."""
    return bool(a.same_as(b)) or (isinstance(a, tirx.IntImm) and isinstance(b, tirx.IntImm) and int(a) == int(b))
