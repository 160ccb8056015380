"""A scheduled function's blocks read as plain steps: each stores one buffer, element by element, or reduces into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import TensorLoad

SPATIAL, REDUCED = 0, 2
REDUCERS = (tirx.Add, tirx.Mul, tirx.Max, tirx.Min)


@dataclass(frozen=True)
class Step:
    """buffer[spatial] = value, or a reduction of `value` over `reduced` by `combine` that starts from `initial`.

    spatial, reduced: the block's variables with their extents, in order; annotations: of the block
    """

    buffer: tirx.Buffer
    spatial: tuple[tirx.Var, ...]
    extents: tuple[int, ...]
    reduced: tuple[tirx.Var, ...]
    lengths: tuple[int, ...]
    value: tirx.Expr
    combine: type | None
    initial: tirx.Expr | None
    annotations: Mapping[str, Any]

    def at(self, point: Sequence[tirx.Expr], along: Sequence[tirx.Expr] = ()) -> tirx.Expr:
        """`value` at a point of the buffer, and of what is reduced."""
        return replaced(self.value, dict(zip((*self.spatial, *self.reduced), (*point, *along), strict=True)))

    def combined(self, found: tirx.Expr, value: tirx.Expr) -> tirx.Expr:
        """One more value taken into a reduction."""
        assert self.combine is not None
        return self.combine(found, value)


def steps(func: tirx.PrimFunc) -> list[Step] | None:
    """The function's blocks in order; None where one is not a plain step over fixed extents."""
    root = func.body.block
    nests = list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    found = [_step(nest) for nest in nests]
    return None if any(step is None for step in found) else [step for step in found if step is not None]


def replaced(
    expr: tirx.Expr,
    values: Mapping[tirx.Var, tirx.Expr],
    load: Callable[[TensorLoad], tirx.Expr] | None = None,
) -> tirx.Expr:
    """The expression with variables replaced, then each load by what `load` makes of it."""
    callbacks: list[tuple[type, Callable[[Any], Any]]] = [(tirx.Var, lambda var: values.get(var, var))]
    if load is not None:
        callbacks.append((TensorLoad, load))
    return tvm_ffi.structural_map(expr, callbacks)


def loads(expr: tirx.Expr) -> list[TensorLoad]:
    """Every load in an expression."""
    found: list[TensorLoad] = []
    tvm_ffi.structural_walk(expr, (TensorLoad, found.append))
    return found


def uses(expr: Any, var: tirx.Var) -> bool:
    """Whether a variable occurs in an expression."""
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expr, (tirx.Var, lambda other: found.append(other) if other.same_as(var) else None))
    return bool(found)


def _step(nest: tirx.Stmt) -> Step | None:
    while isinstance(nest, tirx.For):
        nest = nest.body
    if not isinstance(nest, s_tir.SBlockRealize) or not _is(nest.predicate, 1):
        return None
    block = nest.block
    store = block.body
    fixed = all(_is(axis.dom.min, 0) and isinstance(axis.dom.extent, tirx.IntImm) for axis in block.iter_vars)
    if not fixed or not isinstance(store, tirx.BufferStore) or block.match_buffers or block.alloc_buffers:
        return None
    spatial = [axis for axis in block.iter_vars if int(axis.iter_type) == SPATIAL]
    reduced = [axis for axis in block.iter_vars if int(axis.iter_type) == REDUCED]
    if len(spatial) + len(reduced) != len(block.iter_vars) or len(spatial) != len(store.indices):
        return None
    if any(not index.same_as(axis.var) for index, axis in zip(store.indices, spatial, strict=True)):
        return None
    value, combine, initial = store.value, None, None
    if reduced:
        if not isinstance(block.init, tirx.BufferStore) or not _accumulates(store):
            return None
        value, combine, initial = store.value.b, type(store.value), block.init.value
    return Step(
        store.buffer, tuple(axis.var for axis in spatial), tuple(int(axis.dom.extent) for axis in spatial),
        tuple(axis.var for axis in reduced), tuple(int(axis.dom.extent) for axis in reduced),
        value, combine, initial, dict(block.annotations or {}),
    )  # fmt: skip


def _accumulates(store: tirx.BufferStore) -> bool:
    value = store.value
    if not isinstance(value, REDUCERS) or not isinstance(value.a, TensorLoad):
        return False
    return value.a.source.same_as(store.buffer) and not any(
        load.source.same_as(store.buffer) for load in loads(value.b)
    )


def _is(expr: tirx.Expr, number: int) -> bool:
    return isinstance(expr, tirx.IntImm) and int(expr) == number
