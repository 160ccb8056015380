"""The instructions that multiply bytes and add up their products in 32 bits, as TIR writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.ir import Expr
from tvm.script import tirx as T

from lwc.backends.tvm.machine import Machine

VPDPBUSD, VPDPBUSD_LANES = "llvm.x86.avx512.vpdpbusd.512", 16
SDOT, SDOT_LANES = "llvm.aarch64.neon.sdot.v4i32.v16i8", 4


@dataclass(frozen=True)
class Dot:
    """sums [lanes] int32 += data [together] . weights [lanes, together]

    data_type: that the instruction takes;  add: of sums, data and weights, as vectors, the new sums
    """

    lanes: int
    together: int
    data_type: str
    add: Callable[[Expr, Expr, Expr], Expr]

    @staticmethod
    def of(machine: Machine, data_type: str) -> Dot:
        """What the machine multiplies bytes with; without such instructions integers of 32 bits, one by one."""
        if machine.dot_int8 == "vnni":
            return Dot(VPDPBUSD_LANES, 4, "uint8", _vpdpbusd)
        if machine.dot_int8 == "sdot":
            return Dot(SDOT_LANES, 4, "int8", _sdot)
        return Dot(machine.lanes, 1, data_type, _multiplied)


def _vpdpbusd(sums: Expr, data: Expr, weights: Expr) -> Expr:
    return _intrinsic(VPDPBUSD, sums, _spread(data, VPDPBUSD_LANES), weights)


def _sdot(sums: Expr, data: Expr, weights: Expr) -> Expr:
    return _intrinsic(SDOT, sums, _spread(data, SDOT_LANES), weights)


def _multiplied(sums: Expr, data: Expr, weights: Expr) -> Expr:
    wide = f"int32x{sums.ty.dtype.lanes}" if sums.ty.dtype.lanes > 1 else "int32"
    value = data.astype("int32")
    return sums + (T.broadcast(value, sums.ty.dtype.lanes) if sums.ty.dtype.lanes > 1 else value) * weights.astype(wide)


def _spread(data: Expr, lanes: int) -> Expr:
    """Four bytes, as often as there are lanes."""
    return T.reinterpret(T.broadcast(T.reinterpret(data, dtype="int32"), lanes), dtype=f"int8x{4 * lanes}")


def _intrinsic(name: str, sums: Expr, *operands: Expr) -> Expr:
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), sums, *operands, dtype=str(sums.ty.dtype))
