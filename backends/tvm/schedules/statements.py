"""Loops and blocks of TensorIR written directly: what a kernel is made of once its tiles are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import s_tir, tirx
from tvm.tirx import ForKind
from tvm.tirx import Stmt as Stmt

# What is done before other threads have begun: so many multiplications, so many elements.
WORTH_PRODUCTS, WORTH_ELEMENTS = 1 << 17, 1 << 14

Body = Callable[[Any], tirx.Stmt]


def serial(extent: Any, body: Body, start: Any = 0) -> tirx.Stmt:
    """One after the other."""
    return _loop(extent, body, ForKind.SERIAL, start)


def parallel(extent: int, body: Body, *, worth: bool = True) -> tirx.Stmt:
    """A loop spread over the thread pool where that is worth its launch."""
    return _loop(extent, body, ForKind.PARALLEL if worth and extent > 1 else ForKind.SERIAL, 0)


def worth_threads(products: int) -> bool:
    """Whether so many products take longer than waking the thread pool does, some microseconds."""
    return products >= WORTH_PRODUCTS


def unrolled(extent: int, body: Body, start: int = 0) -> tirx.Stmt:
    """Written out."""
    return _loop(extent, body, ForKind.UNROLLED, start)


def vector(lanes: int, body: Body) -> tirx.Stmt:
    """`body` of a lane, for all lanes at once; the lane must stay a variable where it indexes."""
    return _loop(lanes, body, ForKind.VECTORIZED, 0)


def vectors(extent: int, lanes: int, body: Callable[[Any, Any], tirx.Stmt], *, together: int = 1) -> tirx.Stmt:
    """body(element, slot) for every element, `together` vectors an iteration, the last vector masked.

    slot: the element's place among the `together * lanes` of its iteration
    """

    def vector_at(base: Any, place: int, *, rest: int = 0) -> tirx.Stmt:
        def lane_of(lane: Any) -> tirx.Stmt:
            inner = body(base + (lane + place), lane + place)
            return tirx.IfThenElse(lane < rest, inner, None) if rest else inner

        return vector(lanes, lane_of)

    step = lanes * together
    whole, left = extent // step, extent % step
    statements = []
    if whole:
        statements.append(serial(whole, lambda block: sequence([
            vector_at(block * step, place) for place in range(0, step, lanes)
        ])))  # fmt: skip
    end = index(whole * step)
    statements += [vector_at(end, place) for place in range(0, left - left % lanes, lanes)]
    if left % lanes:
        statements.append(vector_at(end, left - left % lanes, rest=left % lanes))
    return sequence(statements)


def stepped(extent: int, step: int, body: Body, before: Body | None = None) -> tirx.Stmt:
    """A serial loop whose body is repeated `step` times, or fewer where that does not divide the extent.

    before: of the loop's counter, what comes ahead of the repetitions
    """
    step = whole_step(extent, step)

    def round_(outer: Any) -> tirx.Stmt:
        repeated = unrolled(step, lambda inner: body(outer * step + inner))
        return repeated if before is None else sequence([before(outer), repeated])

    return serial(extent // step, round_)


def whole_step(extent: int, most: int) -> int:
    """The greatest divisor of `extent` up to `most`."""
    return next(size for size in range(min(most, extent), 0, -1) if extent % size == 0)


def prefetch(buffer: tirx.Buffer, indices: Sequence[Any]) -> tirx.Stmt:
    """Fetch the line of an element into the second cache; harmless past the buffer's end."""
    numbers = (tirx.const(number, "int32") for number in (0, 2, 1))  # to read, into L2, data
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(buffer[indices]), *numbers))


def sequence(statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    """One after the other; of none, a statement that does nothing."""
    if len(statements) == 1:
        return statements[0]
    return tirx.SeqStmt(list(statements)) if statements else tirx.Evaluate(0)


def store(buffer: tirx.Buffer, indices: Sequence[Any], value: Any) -> tirx.Stmt:
    """An element of the buffer, given its value."""
    return tirx.BufferStore(buffer, value, list(indices))


def local(lanes: int, dtype: str = "float32") -> tirx.Buffer:
    """A small array that becomes registers where all its indices become constants."""
    return tirx.decl_buffer((lanes,), dtype, name="acc")


def with_nest(func: tirx.PrimFunc, body: tirx.Stmt, buffers: Sequence[tirx.Buffer]) -> tirx.PrimFunc:
    """The function with a new body, and the buffers that the body uses besides the parameters."""
    root = s_tir.SBlock([], [], [], "root", body, alloc_buffers=list(buffers))
    return func.with_body(s_tir.SBlockRealize([], tirx.const(True, "bool"), root))


def index(value: int) -> tirx.IntImm:
    """A number as an index."""
    return tirx.IntImm("int64", value)


def piece_start(index: Any, step: int, extent: int) -> Any:
    """Where a piece of `step` begins in `extent`: the last one overlaps the one before, so that none is partial."""
    if isinstance(index, int):
        return min(index * step, extent - step)
    return index * step if extent % step == 0 else tirx.min(index * step, extent - step)


def digits(value: Any, extents: Sequence[int]) -> list[Any]:
    """`value` in the mixed radix of `extents`, the last one fastest."""
    found: list[Any] = []
    for extent in reversed(extents):
        found.insert(0, value % extent if extent > 1 else 0)
        value = value // extent if extent > 1 else value
    return found


def _loop(extent: Any, body: Body, kind: ForKind, start: Any) -> tirx.Stmt:
    if isinstance(extent, int) and extent == 1:
        return body(index(start) if isinstance(start, int) else start)
    var = tirx.Var("i", "int64")
    return tirx.For(var, start, extent, kind, body(var))
