"""A recurrent state as codes of a byte, by ONNX DynamicQuantizeLinear, before each product with R."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from lwc.backends.tvm.schedules.recurrence import UNITS, Recurrence
from lwc.backends.tvm.schedules.recurrent_cells import HIDDEN
from lwc.backends.tvm.schedules.recurrent_units import CODES, RANGE, Buffers
from lwc.backends.tvm.schedules.statements import index, sequence, serial, vector, vectors

MOST = 255


def quantize(loop: Recurrence, buffers: Buffers, way: Any, step: Any) -> tirx.Stmt:
    """The codes of one direction's state less their zero point, and scale and zero point of all its rows."""
    zero, most = tirx.const(0, loop.dtype), tirx.const(MOST, loop.dtype)
    bounds, found, codes = buffers.bounds, buffers.inner[RANGE], buffers.inner[CODES]
    low, high = index(0), index(1)

    def every(row: Any, body: Any) -> tirx.Stmt:
        def one(unit: Any, slot: Any) -> tirx.Stmt:
            return sequence(body(buffers.load(HIDDEN, step, way, row, unit), unit, slot))

        return vectors(loop.hidden, UNITS, one)

    def widen(value: Any, _: Any, slot: Any) -> list[tirx.Stmt]:
        return [
            tirx.BufferStore(bounds, tirx.min(bounds[low, slot], value), [low, slot]),
            tirx.BufferStore(bounds, tirx.max(bounds[high, slot], value), [high, slot]),
        ]

    def reduce(slot: Any) -> tirx.Stmt:
        return sequence([
            tirx.BufferStore(bounds, tirx.min(bounds[low, low], bounds[low, slot]), [low, low]),
            tirx.BufferStore(bounds, tirx.max(bounds[high, low], bounds[high, slot]), [high, low]),
        ])  # fmt: skip

    def code(value: Any, row: Any, unit: Any) -> tirx.Stmt:
        size, point = found[way, low], found[way, high]
        whole = tirx.max(zero, tirx.min(most, tirx.nearbyint(value / size) + point))
        return tirx.BufferStore(codes, whole - point, [way, row, unit])

    wide, one = bounds[high, low] > bounds[low, low], tirx.const(1, loop.dtype)
    size = tirx.Select(wide, (bounds[high, low] - bounds[low, low]) / most, one)
    point = tirx.nearbyint((zero - bounds[low, low]) / found[way, low])
    return sequence([
        vector(UNITS, lambda lane: tirx.BufferStore(bounds, zero, [low, lane])),
        vector(UNITS, lambda lane: tirx.BufferStore(bounds, zero, [high, lane])),
        serial(loop.batch, lambda row: every(row, widen)),
        serial(UNITS, reduce),
        tirx.BufferStore(found, size, [way, low]),
        tirx.BufferStore(found, tirx.max(zero, tirx.min(most, point)), [way, high]),
        serial(loop.batch, lambda row: every(row, lambda value, unit, _: [code(value, row, unit)])),
    ])  # fmt: skip
