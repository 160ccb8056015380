"""Loop nests written out: what schedule primitives do not reach, tiles that overlap at the edges among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import s_tir, tirx

Body = Callable[[tirx.Var], tirx.Stmt]


def loop(name: str, extent: int, body: Body, kind: tirx.ForKind = tirx.ForKind.SERIAL) -> tirx.Stmt:
    """for name in range(extent): body(name)"""
    var = tirx.Var(name, "int64")
    return tirx.For(var, index(0), index(extent), kind, body(var))


def parallel(extent: int, body: Body, *, worth: bool = True) -> tirx.Stmt:
    """The loop spread over the thread pool where that is worth its launch."""
    return loop("task", extent, body, tirx.ForKind.PARALLEL if worth and extent > 1 else tirx.ForKind.SERIAL)


def vector(lanes: int, body: Body) -> tirx.Stmt:
    """The body on `lanes` neighbours at once."""
    return loop("lane", lanes, body, tirx.ForKind.VECTORIZED) if lanes > 1 else body(index(0))


def index(value: int) -> tirx.IntImm:
    """A number as an index."""
    return tirx.IntImm("int64", value)


def sequence(statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    """One statement after the other."""
    return tirx.SeqStmt(list(statements)) if len(statements) > 1 else statements[0]


def with_nest(func: tirx.PrimFunc, body: tirx.Stmt, buffers: Sequence[tirx.Buffer]) -> tirx.PrimFunc:
    """The function with a new body, and the buffers that the body uses besides the parameters."""
    root = s_tir.SBlock([], [], [], "root", body, alloc_buffers=list(buffers))
    return func.with_body(s_tir.SBlockRealize([], tirx.const(True, "bool"), root))


def vectors(
    extent: int, lanes: int, body: Callable[[tirx.Expr, tirx.Expr], tirx.Stmt], *, together: int = 1
) -> tirx.Stmt:
    """body(element, slot) for every element, `together` vectors an iteration, the last vector masked.

    slot: the element's place among the `together * lanes` of its iteration
    """

    def vector_at(base: tirx.Expr, place: int, *, rest: int = 0) -> tirx.Stmt:
        def lane_of(lane: tirx.Expr) -> tirx.Stmt:
            inner = body(base + (lane + place), lane + place)
            return tirx.IfThenElse(lane < rest, inner, None) if rest else inner

        return vector(lanes, lane_of)

    step = lanes * together
    whole, left = extent // step, extent % step
    statements = []
    if whole:
        statements.append(loop("block", whole, lambda block: sequence([
            vector_at(block * step, place) for place in range(0, step, lanes)
        ])))  # fmt: skip
    end = index(whole * step)
    statements += [vector_at(end, place) for place in range(0, left - left % lanes, lanes)]
    if left % lanes:
        statements.append(vector_at(end, left - left % lanes, rest=left % lanes))
    return sequence(statements)
