"""Convolutions and products on AMX tiles: 16 rows of 64 bytes, multiplied 512 (bf16) or 1,024 (int8) at a time.

A tile's rows are neighbouring pixels, read in place: in NHWC the values below a row of the kernel lie side by side, so
rows of a tile are a stride apart and no patches are copied. Sums stay in tile registers over the whole reduction.

    C[y, x + r, o] = sum_{ky} sum_{kb} P[y s + ky, (x + r) s, 64 kb .. 64 kb + 63 bytes] . B[o, ky, kb]

Intel 64 and IA-32 Architectures Software Developer's Manual, chapter "Programming with Intel AMX".
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.tile_blocks import BYTES, OUTPUTS, REGISTERS, ROWS, Block, Product, covered, padded_shape

TILES = "tiles"  # the block whose loops the schedule knows
# Type of the data -> the instruction that multiplies tiles of it with tiles of weights, and the type of the sums.
INSTRUCTIONS = {
    "uint8": ("tdpbusd", "int32"),
    "int8": ("tdpbssd", "int32"),
    "uint16": ("tdpbf16ps", "float32"),  # bits of bfloat16
}


def kernel(product: Product, block: Block, batch: int = 1) -> tirx.PrimFunc:
    """data [batch, rows, columns, inputs] of padded_shape, packed weights, configuration -> [batch, h, w, outputs]."""
    instruction, summed = INSTRUCTIONS[product.dtype]
    weight_type = "uint16" if product.dtype == "uint16" else "int8"
    wide_tiles = -(-product.outputs // block.channels) * block.wide
    (rows, columns), (height, width) = padded_shape(product, block), covered(product, block)
    data_tile, weight_tile = REGISTERS - 1 - block.wide, REGISTERS - block.wide
    sums = block.down * block.across * block.wide
    down, across, wide, pixels, channels, r = _long(
        block.down, block.across, block.wide, block.pixels, block.channels, block.rows
    )
    sy, sx, inputs, ky_size, steps, per_step = _long(
        product.stride_y, product.stride_x, product.inputs, product.kernel_y, product.steps, BYTES // product.itemsize
    )
    (between,) = _long(product.stride_x * product.inputs * product.itemsize)
    data_shape = _long(batch, rows, columns, product.inputs)
    weight_shape = [*_long(wide_tiles), ky_size, steps, *_long(ROWS), per_step]
    sums_shape = _long(batch, height, width, wide_tiles * OUTPUTS)
    out_shape = _long(batch, product.height, product.width, product.outputs)
    grid = _long(batch, height // block.down, width // block.pixels, wide_tiles // block.wide)

    # fmt: off
    @T.prim_func(s_tir=True)
    def tiles(  # type: ignore[no-untyped-def]
        P: T.Buffer(data_shape, product.dtype), B: T.Buffer(weight_shape, weight_type),  # type: ignore[valid-type]
        F: T.Buffer((T.int64(64),), "uint8"), D: T.Buffer(out_shape, summed),  # type: ignore[valid-type]
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": OUT_ELEMENTWISE_FUSABLE})
        C = T.sblock_alloc_buffer(sums_shape, summed)
        for no, yo, xo, oo in T.grid(*grid):
            with T.sblock("tiles"):
                n, y, x, o = T.axis.remap("SSSS", [no, yo, xo, oo])
                T.reads(
                    P[n, y * down * sy : y * down * sy + (down - 1) * sy + ky_size,
                      x * pixels * sx : x * pixels * sx + (pixels - 1) * sx + 1, 0:inputs],
                    B[o * wide : o * wide + wide, 0:ky_size, 0:steps, 0:16, 0:per_step], F[0:64],
                )
                T.writes(C[n, y * down : y * down + down, x * pixels : x * pixels + pixels,
                           o * channels : o * channels + channels])
                s0, s1, s2 = T.int64(), T.int64(), T.int64()
                S = T.match_buffer(
                    C[n : n + 1, y * down : y * down + down, x * pixels : x * pixels + pixels,
                      o * channels : o * channels + channels],
                    (T.int64(1), down, pixels, channels), summed, strides=[s0, s1, s2, T.int64(1)], offset_factor=1,
                )
                T.evaluate(_call("ldtilecfg", T.address_of(F[0])))
                for t in T.unroll(sums):
                    T.evaluate(_call("tilezero", T.Cast("int8", t)))
                for ky in T.serial(ky_size):
                    for step in T.serial(steps):
                        for w in T.unroll(wide):
                            T.evaluate(_call("tileloadd64", T.Cast("int8", weight_tile + w),
                                             T.address_of(B[o * wide + w, ky, step, 0, 0]), T.int64(64)))
                        for a in T.unroll(down * across):
                            T.evaluate(_call("tileloadd64", T.int8(data_tile), T.address_of(
                                P[n, (y * down + a // across) * sy + ky,
                                  (x * pixels + a % across * r) * sx + step * per_step // inputs,
                                  step * per_step % inputs]), between))
                            for w in T.unroll(wide):
                                T.evaluate(_call(instruction, T.Cast("int8", a * wide + w), T.int8(data_tile),
                                                 T.Cast("int8", weight_tile + w)))
                for a in T.unroll(down * across):
                    for w in T.unroll(wide):
                        T.evaluate(_call("tilestored64", T.Cast("int8", a * wide + w),
                                         T.address_of(S[0, a // across, a % across * r, w * 16]), s2 * T.int64(4)))
                T.evaluate(_call("tilerelease"))
        for no, yo, xo, oo in T.grid(*out_shape):
            with T.sblock("crop"):
                n, y, x, o = T.axis.remap("SSSS", [no, yo, xo, oo])
                D[n, y, x, o] = C[n, y, x, o]
    # fmt: on
    return tiles


def _long(*sizes: int) -> list[Any]:
    """Constants of the type that Relax gives to sizes."""
    return [T.int64(size) for size in sizes]


def _call(name: str, *operands: Any) -> tirx.Call:
    """An instruction on tiles."""
    return T.call_llvm_intrin("void", T.llvm_lookup_intrinsic_id(f"llvm.x86.{name}"), *operands)
