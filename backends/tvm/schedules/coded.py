"""Products of data rounded to 8 bits a block with codes of 8 or 4 bits: sums of integers, scaled once a block.

    sum_k x_k w_k ~ sum_blocks s_x s_w (sum_k q_k c_k - z sum_k q_k)

As MatMulNBits of ONNX Runtime at accuracy level 4. Data of a block are its bytes, then s_x, then the sum of q, both in
float32; a word of codes lies as `coded_products` packs it, so that four bytes of it, and of data, multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.int8_dot import VPDPBUSD, VPDPBUSD_LANES
from lwc.backends.tvm.schedules.pointwise import follows, unravel
from lwc.backends.tvm.schedules.product import CODED, Place, Product, Tiles, product_of
from lwc.backends.tvm.schedules.statements import (
    index,
    parallel,
    sequence,
    serial,
    store,
    vector,
    with_nest,
    worth_threads,
)
from lwc.backends.tvm.schedules.steps import Step, loads, steps

ROUNDED = "lwc.rounded"  # the zero point of all codes, -1 where there are others
ROUNDS = "lwc.rounds"  # the length of a block, and with what is behind its end
FACT_BYTES = 8  # behind the bytes of a block
HALVES = 0x0F0F0F0F  # of bytes


def coded(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """A product that `coded_products` wrote, with elementwise steps after it."""
    found = steps(func)
    if not found or ROUNDED not in found[0].annotations or not follows(found[0], found[1:]):
        return None
    shape = product_of(found[0])
    if shape is None:
        return None
    # Beside the sums lie those of a block.
    own = replace(machine, registers=machine.registers // 2)
    tiles = Words(shape, found[1:], set(func.params), own)
    counts = (math.prod(shape.batch), tiles.panels, tiles.row_tiles)
    work = math.prod((*shape.step.extents, *shape.step.lengths))
    body = parallel(
        math.prod(counts), lambda number: tiles.at(*unravel(number, counts)), worth=worth_threads(work)
    )
    return with_nest(func, body, [tiles.sums, tiles.inner])


def rounds(func: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """The rounding of data that such products read, a block after the other."""
    found = steps(func)
    if not found or ROUNDS not in found[-1].annotations:
        return None
    data, out = loads(found[0].value)[0].source, found[-1].buffer
    block, each = (int(number) for number in found[-1].annotations[ROUNDS])
    *outer, blocks, _ = found[-1].extents
    depth = int(data.shape[-1])
    lanes = machine.lanes if blocks * each == depth and each % machine.lanes == 0 else 1
    peak, total = (tirx.decl_buffer((lanes,), "float32", name, scope="local") for name in ("peak", "total"))
    zero = tirx.const(0, "float32")

    def value(point: Sequence[Any], number: Any, k: Any) -> tirx.Expr:
        source = number * block + k
        if lanes > 1:
            return tirx.BufferLoad(data, [*point, source])
        inside = tirx.all(k < block, source < depth)
        return tirx.if_then_else(inside, tirx.BufferLoad(data, [*point, source]), zero)

    def task(index_: tirx.Var) -> tirx.Stmt:
        *point, number = unravel(index_, (*outer, blocks))
        over, scale = tirx.Var("over", peak_type), tirx.Var("scale", peak_type)

        def widest(first: Any, lane: Any) -> tirx.Stmt:
            return store(peak, [lane], tirx.max(peak[lane], tirx.abs(value(point, number, first * lanes + lane))))

        def code(first: Any, lane: Any) -> tirx.Stmt:
            k = first * lanes + lane
            whole = tirx.nearbyint(value(point, number, k) * over)
            return sequence([
                store(out, [*point, number, k], whole.astype("int8")), store(total, [lane], total[lane] + whole)
            ])  # fmt: skip

        def each_vector(body: Callable[[Any, Any], tirx.Stmt]) -> tirx.Stmt:
            return serial(each // lanes, lambda first: vector(lanes, lambda lane: body(first, lane)))

        return sequence([
            vector(lanes, lambda lane: store(peak, [lane], zero)),
            vector(lanes, lambda lane: store(total, [lane], zero)),
            each_vector(widest),
            *(store(peak, [0], tirx.max(peak[0], peak[lane])) for lane in range(1, lanes)),
            tirx.Bind(scale, peak[0] * tirx.const(1 / 127, "float32")),
            tirx.Bind(over, tirx.Select(peak[0] > zero, tirx.const(127, "float32") / peak[0], zero)),
            each_vector(code),
            *(store(total, [0], total[0] + total[lane]) for lane in range(1, lanes)),
            _fact(out, [*point, number], each, scale), _fact(out, [*point, number], each + 4, total[0]),
        ])  # fmt: skip

    peak_type = zero.ty
    count = math.prod((*outer, blocks))
    body = parallel(count, task, worth=worth_threads(count * each))
    return with_nest(func, body, [peak, total])


def _fact(out: tirx.Buffer, place: Sequence[Any], first: int, value: tirx.Expr) -> tirx.Stmt:
    """Four bytes of a number."""
    at = [*place, tirx.Ramp(index(first), tirx.const(1, "int64"), 4)]
    return tirx.BufferStore(out, T.reinterpret(value, dtype="int8x4"), at)


class Words(Tiles):
    """inner: a tile's sums within a block, 32 bits"""

    def __init__(
        self, shape: Product, rest: Sequence[Step], outputs: Collection[tirx.Buffer], machine: Machine
    ) -> None:
        super().__init__(shape, rest, outputs, machine)
        self.inner = tirx.decl_buffer((self.tile.rows * self.tile.width,), "int32", "inner", scope="local")
        buffers = list(dict.fromkeys(load.source for load in loads(shape.step.value)))
        self.data, self.packed, self.scale, *self.zero = buffers
        self.middle = int(shape.step.annotations[ROUNDED])
        self.bits = int(shape.step.annotations[CODED])

    def _accumulate(self, place: Place, reduced: Sequence[tirx.Expr] = ()) -> tirx.Stmt:
        blocks, count, _ = self.shape.step.lengths
        panel = place[2] // self.tile.width
        places = [(row, at) for row in range(self.tile.rows) for at in range(0, self.tile.width, VPDPBUSD_LANES)]

        def block(number: tirx.Var) -> tirx.Stmt:
            clear = [tirx.BufferStore(self.inner, _spread(tirx.const(0, "int32")), self._slot(*at)) for at in places]
            body = serial(count, lambda step: self._step(place, panel, number, number * count + step, step))
            scaled = [self._scaled(place, panel, number, *at) for at in places]
            return sequence([*clear, body, *scaled])

        return serial(blocks, block)

    def _slot(self, row: int, at: int) -> list[Any]:
        return [_side_by_side(index(row * self.tile.width + at))]

    def _step(self, place: Place, panel: Any, block: Any, word: Any, step: Any) -> tirx.Stmt:
        """The codes of one word of every output, times every row's data."""
        parts = 8 // self.bits
        statements: list[tirx.Stmt] = []
        for at in range(0, self.tile.width, VPDPBUSD_LANES):
            whole = tirx.BufferLoad(self.packed, [panel, word, _side_by_side(index(at))])
            for part in range(parts):
                codes = whole
                if self.bits < 8:
                    codes = (whole >> _spread(tirx.const(4 * part, "uint32"))) & _spread(tirx.const(HALVES, "uint32"))
                for row in range(self.tile.rows):
                    data = self._data(place, row, block, step * parts + part)
                    slot = self._slot(row, at)
                    value = _multiplied(tirx.BufferLoad(self.inner, slot), codes, data)
                    statements.append(tirx.BufferStore(self.inner, value, slot))
        return sequence(statements)

    def _data(self, place: Place, row: int, block: Any, word: Any) -> tirx.Expr:
        """Four bytes as one integer."""
        at = [*self._point(place, row, place[2])[:-1], block, tirx.Ramp(word * 4, tirx.const(1, "int64"), 4)]
        return T.reinterpret(tirx.BufferLoad(self.data, at), dtype="int32")

    def _scaled(self, place: Place, panel: Any, block: Any, row: int, at: int) -> tirx.Stmt:
        words = (int(self.data.shape[-1]) - FACT_BYTES) // 4
        factor, total = (
            _spread(tirx.reinterpret("float32", self._data(place, row, block, index(words + k)))) for k in range(2)
        )
        columns = [panel, block, _side_by_side(index(at))]
        kind = f"float32x{VPDPBUSD_LANES}"
        zero = _spread(tirx.const(float(self.middle), "float32"))
        if self.zero:
            zero = tirx.BufferLoad(self.zero[0], columns).astype(kind)
        slot = self._slot(row, at)
        inner = tirx.BufferLoad(self.inner, slot).astype(kind) - zero * total
        value = tirx.BufferLoad(self.sums, slot) + inner * (tirx.BufferLoad(self.scale, columns).astype(kind) * factor)
        return tirx.BufferStore(self.sums, value, slot)


def _multiplied(sums: tirx.Expr, codes: tirx.Expr, data: tirx.Expr) -> tirx.Expr:
    """Codes are the bytes without a sign, the first operand."""
    kind = f"int8x{4 * VPDPBUSD_LANES}"
    operands = (T.reinterpret(codes, dtype=kind), T.reinterpret(_spread(data), dtype=kind))
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(VPDPBUSD), sums, *operands, dtype=str(sums.ty.dtype))


def _spread(value: tirx.Expr) -> tirx.Expr:
    return T.broadcast(value, VPDPBUSD_LANES)


def _side_by_side(first: Any) -> tirx.Expr:
    return tirx.Ramp(first, tirx.const(1, "int64"), VPDPBUSD_LANES)
