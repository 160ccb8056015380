"""Constant matrices of codes with a scale for each output and block of inputs, as the graph holds them.

    w[k, n] = (codes[k, n] - zero[k // block, n]) scale[k // block, n]

No operator of Relax says that: in the graph it is a call of NAME, which stands until `coded_products` writes the
products by it and makes numbers of what else reads it. Nothing folds it before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from lwc.backends.tvm.lowering.expressions import array_of, const, constant_array
from lwc.backends.tvm.lowering.quantized import BYTES, bound, call_of, described, operator

NAME = "lwc.coded"
Floats = NDArray[np.float32]
SIGN = 128


@dataclass(frozen=True)
class Coded:
    """codes: uint8 [K, N], from zero;  scale, zero: float32 [blocks, N];  bits: 4 or 8;  block: of rows
    rounded: what it is multiplied with may be rounded to 8 bits, with a scale for each block
    """

    codes: NDArray[np.uint8]
    scale: Floats
    zero: Floats
    bits: int
    block: int
    rounded: bool = False

    def numbers(self) -> Floats:
        """[K, N]"""
        depth = self.codes.shape[0]
        scale, zero = (np.repeat(each, self.block, axis=0)[:depth] for each in (self.scale, self.zero))
        return ((self.codes.astype(np.float32) - zero) * scale).astype(np.float32)

    def call(self) -> relax.Expr:
        """The matrix as the graph holds it."""
        settings = const([self.bits, self.block, int(self.rounded)], "int64")
        arrays = (const(self.codes), const(self.scale), const(self.zero), settings)
        return relax.call_pure_packed(NAME, *arrays, ty_args=[relax.TensorType(self.codes.shape, "float32")])

    @staticmethod
    def of(builder: relax.BlockBuilder, value: relax.Expr) -> Coded | None:
        """What a value was made of; None for values that are no such matrix."""
        found = bound(builder, value)
        if is_coded(found):
            codes, scale, zero, settings = (
                constant_array(bound(builder, each), "a matrix of codes") for each in found.args[1:]
            )
            bits, block, rounded = (int(number) for number in settings)
            return Coded(codes, scale, zero, bits, block, bool(rounded))
        return _by_output(builder, found)


def is_coded(value: relax.Expr) -> bool:
    """Whether it is such a matrix's call."""
    if not isinstance(value, relax.Call) or operator(value) != "relax.call_pure_packed":
        return False
    return str(getattr(value.args[0], "global_symbol", "")) == NAME


def _by_output(builder: relax.BlockBuilder, value: relax.Expr) -> Coded | None:
    """A dequantized matrix of bytes, with one scale for all or for each output, perhaps transposed."""
    turned = call_of(builder, value, "relax.permute_dims")
    inner = value if turned is None else bound(builder, turned.args[0])
    call = call_of(builder, inner, "relax.dequantize")
    found = described(builder, call) if call is not None and str(call.ty.dtype) == "float32" else None
    codes = None if found is None else array_of(bound(builder, found.codes))
    if found is None or codes is None or codes.ndim != 2 or codes.dtype.name not in BYTES:
        return None
    scale, zero, axis = found.scale, found.zero_point.astype(np.float32), found.axis
    if turned is not None:
        codes, axis = codes.T, 1 - axis
    if axis != 1 and (scale.ndim or zero.ndim):
        return None
    if codes.dtype == np.int8:
        codes, zero = codes.astype(np.int16) + SIGN, zero + SIGN
    depth, columns = codes.shape
    scale, zero = (np.broadcast_to(each.astype(np.float32), (1, columns)) for each in (scale, zero))
    return Coded(codes.astype(np.uint8), scale.copy(), zero.copy(), 8, max(depth, 1))
