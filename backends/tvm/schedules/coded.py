"""Products of data rounded to 8 bits a block with codes of 8 or 4 bits: sums of integers, scaled once a block.

    sum_k x_k w_k ~ sum_blocks s_x s_w (sum_k q_k c_k - z sum_k q_k)

As MatMulNBits of ONNX Runtime at accuracy level 4. Data of a block are its bytes, then s_x, then the sum of q, in
words of 32 bits; a word of codes lies as `coded_products` packs it, so that four bytes of it, and of data, multiply.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.int8_dot import VPDPBUSD, VPDPBUSD_LANES
from lwc.backends.tvm.schedules.pointwise import follows, unravel
from lwc.backends.tvm.schedules.product import CODED, Place, Product, Tiles, product_of
from lwc.backends.tvm.schedules.statements import index, parallel, sequence, serial, with_nest, worth_threads
from lwc.backends.tvm.schedules.steps import Step, loads, steps

ROUNDED = "lwc.rounded"  # the zero point of all codes, -1 where there are others
FACTS = 2  # words behind the bytes of a block
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
        return tirx.BufferLoad(self.data, [*self._point(place, row, place[2])[:-1], block, word])

    def _scaled(self, place: Place, panel: Any, block: Any, row: int, at: int) -> tirx.Stmt:
        words = int(self.data.shape[-1]) - FACTS
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
