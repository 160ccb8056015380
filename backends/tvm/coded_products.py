"""Products by matrices of codes: these stay packed, and become numbers in registers.

Words of 32 bits hold codes of neighbouring inputs of one output, so that a vector of words is a vector of outputs:
code j of a word lies at bit 8 (j mod 4) + 4 (j div 4). A panel has the words of some outputs over all inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax, te, tirx

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.legalize_product import panels
from lwc.backends.tvm.lowering.coded import Coded, is_coded
from lwc.backends.tvm.lowering.expressions import const, is_static
from lwc.backends.tvm.lowering.quantized import mapped, operator
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.coded import FACT_BYTES, ROUNDED, ROUNDS
from lwc.backends.tvm.schedules.product import CODED, PANEL

WORD = 32
# Vectors of outputs of a panel, for one row and for several: what multiplies them lies in as many registers thrice.
ONE_ROW, MORE_ROWS, MANY_REGISTERS = 4, 2, 32


def coded_products(mod: IRModule, machine: Machine) -> IRModule:
    """The module with products by such matrices as kernels; where anything else reads one, it reads numbers."""
    rewrite = _Products(mod, machine)
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function):
            rewrite.builder_.update_func(var, rewrite.visit_expr(func))
    written = relax.transform.DeadCodeElimination()(rewrite.builder_.get())
    return mapped(written, lambda func: _Numbers(written).visit_expr(func)) if _any_coded(written) else written


def _any_coded(mod: IRModule) -> bool:
    found: list[relax.Call] = []

    def note(node: relax.Expr) -> None:
        if is_coded(node):
            found.append(node)

    for func in mod.functions.values():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, note)
    return bool(found)


@relax.expr_functor.mutator
class _Products(relax.PyExprMutator):
    """Products first: what they read is bound to its variable still."""

    def __init__(self, mod: IRModule, machine: Machine) -> None:
        super().__init__(mod)
        self.machine = machine

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if operator(call) != "relax.matmul" or str(call.ty.dtype) != "float32" or not is_static(call.args[0]):
            return call
        left, right = call.args
        coded = Coded.of(self.builder_, right) if len(left.ty.shape) > 1 and str(left.ty.dtype) == "float32" else None
        return call if coded is None or not coded.codes.size else product(self.builder_, left, coded, self.machine)


@relax.expr_functor.mutator
class _Numbers(relax.PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        coded = Coded.of(self.builder_, call) if is_coded(call) else None
        return call if coded is None else const(coded.numbers())


def product(bb: relax.BlockBuilder, left: relax.Expr, coded: Coded, machine: Machine) -> relax.Expr:
    """left [..., K] float32 -> [..., N]"""
    *outer, depth = (int(size) for size in left.ty.shape)
    more = MORE_ROWS if machine.registers >= MANY_REGISTERS else 1
    width = machine.lanes * (ONE_ROW if math.prod(outer) == 1 else more)
    each = -(-coded.block // (WORD // coded.bits)) * (WORD // coded.bits)
    blocks = coded.scale.shape[0]
    rounded = coded.rounded and machine.dot_int8 == "vnni"
    if rounded:
        left = bb.emit(bb.call_te(rounded_data, left, coded.block, each, blocks, primfunc_name_hint="rounded"))
    elif blocks * each != depth:
        left = bb.emit(bb.call_te(spread, left, coded.block, each, blocks, primfunc_name_hint="spread"))
    first = float(coded.zero.reshape(-1)[0])
    middle = int(first) if first.is_integer() and np.all(coded.zero == first) else -1
    return bb.call_te(
        coded_product, left, const(words(coded, width)), const(panels(_short(coded.scale, machine), width)),
        None if middle >= 0 else const(panels(_bytes(coded.zero), width)),
        columns=coded.codes.shape[1], bits=coded.bits, middle=middle, rounded=rounded,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="coded",
    )  # fmt: skip


def coded_product(
    left: te.Tensor, packed: te.Tensor, scale: te.Tensor, zero: te.Tensor | None, columns: int, bits: int,
    middle: int, rounded: bool,
) -> te.Tensor:  # fmt: skip
    """left [..., blocks x words x codes of a word], packed as `words` gives it, scale and zero [panels, blocks, width]

    middle: the zero point of all, where there is no other;  rounded: left is what `rounded_data` gives
    """
    (_, count, width), blocks, per = (int(size) for size in packed.shape), int(scale.shape[1]), WORD // bits
    steps = count // blocks
    block, step, code = te.reduce_axis((0, blocks)), te.reduce_axis((0, steps)), te.reduce_axis((0, per))

    def element(*at: Any) -> Any:
        *outer, n = at
        word = packed[n // width, block * steps + step, n % width]
        shift = (code % 4 * 8 + code // 4 * 4).astype("uint32")
        number = ((word >> shift) & tirx.const((1 << bits) - 1, "uint32")).astype("int32").astype("float32")
        factor = scale[n // width, block, n % width].astype("float32")
        offset = tirx.const(float(middle), "float32")
        if zero is not None:
            offset = zero[n // width, block, n % width].astype("float32")
        value = number * factor + factor * (tirx.const(0, "float32") - offset)
        if rounded:
            data = _of_rounded(left, outer, block, step * per + code)
        else:
            data = left(*outer, (block * steps + step) * per + code)
        return te.sum(data * value, axis=[block, step, code])

    shape = (*list(left.shape)[: -2 if rounded else -1], columns)
    attrs = {PANEL: width, CODED: bits} | ({ROUNDED: middle} if rounded else {})
    return te.compute(shape, element, name="product", attrs=attrs)


def rounded_data(left: te.Tensor, block: int, each: int, blocks: int) -> te.Tensor:
    """left [..., K] float32 -> int8 [..., blocks, each + 8]: a block's bytes, its scale, their sum, both as float32

    Symmetric about zero, to 127 at the greatest of a block.
    """
    depth, outer_shape = int(left.shape[-1]), list(left.shape)[:-1]

    def value(outer: Any, number: Any, k: Any) -> Any:
        source = number * block + k
        if blocks * each == depth:
            return left(*outer, source)
        return tirx.if_then_else(tirx.all(k < block, source < depth), left(*outer, source), tirx.const(0, "float32"))

    k, n = te.reduce_axis((0, each)), te.reduce_axis((0, each))
    most, zero = tirx.const(127, "float32"), tirx.const(0, "float32")
    shape = (*outer_shape, blocks)
    peak = te.compute(shape, lambda *at: te.max(tirx.abs(value(at[:-1], at[-1], k)), axis=k), name="peak")
    over = te.compute(shape, lambda *at: tirx.Select(peak(*at) > 0, most / peak(*at), zero), name="over")

    def code(outer: Any, number: Any, k: Any) -> Any:
        return tirx.nearbyint(value(outer, number, k) * over(*outer, number))

    total = te.compute(shape, lambda *at: te.sum(code(at[:-1], at[-1], n), axis=n), name="total")

    def byte(*at: Any) -> Any:
        *outer, number, place = at
        scale = peak(*outer, number) * tirx.const(1 / 127, "float32")
        fact = tirx.reinterpret("int32", tirx.Select(place < each + 4, scale, total(*outer, number)))
        at_bit = (place % 4 * 8).astype("int32")
        own = code(outer, number, tirx.min(place, each - 1)).astype("int8")
        return tirx.Select(place < each, own, (fact >> at_bit).astype("int8"))

    return te.compute((*shape, each + FACT_BYTES), byte, name="rounded", attrs={ROUNDS: [block, each]})


def _of_rounded(data: te.Tensor, outer: Any, block: Any, k: Any) -> Any:
    """One number of what `rounded_data` gives."""
    first = int(data.shape[-1]) - FACT_BYTES
    bytes_ = [(data(*outer, block, first + j).astype("int32") & 255) << (8 * j) for j in range(4)]
    scale = tirx.reinterpret("float32", bytes_[0] | bytes_[1] | bytes_[2] | bytes_[3])
    return data(*outer, block, k).astype("float32") * scale


def spread(left: te.Tensor, block: int, each: int, blocks: int) -> te.Tensor:
    """left [..., K] -> [..., blocks x each]: zeros behind each block, and behind the last input."""
    depth = int(left.shape[-1])

    def element(*at: Any) -> Any:
        *outer, k = at
        source = k // each * block + k % each
        inside = tirx.all(k % each < block, source < depth)
        return tirx.if_then_else(inside, left(*outer, source), tirx.const(0, left.dtype))

    return te.compute((*list(left.shape)[:-1], blocks * each), element, name="spread")


def words(coded: Coded, width: int) -> NDArray[np.uint32]:
    """codes [K, N] -> [panels, blocks x words of a block, width]"""
    depth, columns = coded.codes.shape
    blocks, per = coded.scale.shape[0], WORD // coded.bits
    each = -(-coded.block // per) * per
    whole = np.zeros((blocks * coded.block, columns), np.uint8)
    whole[:depth] = coded.codes
    padded = np.zeros((blocks, each, columns), np.uint8)
    padded[:, : coded.block] = whole.reshape(blocks, coded.block, columns)
    codes = padded.reshape(-1, per, columns)
    found = np.zeros((codes.shape[0], columns), np.uint32)
    for j in range(per):
        found |= codes[:, j].astype(np.uint32) << np.uint32(j % 4 * 8 + j // 4 * 4)
    return panels(found, width)


def _short(scale: NDArray[np.float32], machine: Machine) -> NDArray[Any]:
    """In half precision where that holds the same numbers, and the processor reads it."""
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    return half if machine.vector_bytes > 16 and np.array_equal(half.astype(np.float32), scale) else scale


def _bytes(zero: NDArray[np.float32]) -> NDArray[Any]:
    whole = zero.astype(np.uint8)
    return whole if np.array_equal(whole.astype(np.float32), zero) else zero
