"""One kernel by itself: the function that a signature and a candidate stand for, and arrays to run it on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from tvm import IRModule, te, tirx

from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.legalize_conv import direct, pack
from lwc.backends.tvm.legalize_int8 import packed as packed_bytes
from lwc.backends.tvm.legalize_int8 import sums_of
from lwc.backends.tvm.legalize_product import panel_product, panels
from lwc.backends.tvm.legalize_tiles import BITS
from lwc.backends.tvm.legalize_winograd import pack as pack_transformed
from lwc.backends.tvm.legalize_winograd import winograd
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import generate
from lwc.backends.tvm.schedules import scheduled
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.schedules.int8 import Sums
from lwc.backends.tvm.schedules.product_tile import Sizes
from lwc.backends.tvm.schedules.winograd_plan import Winograd
from lwc.backends.tvm.tile_blocks import Product, configuration, packed_weight, padded_shape
from lwc.backends.tvm.tile_kernels import INSTRUCTIONS, kernel
from lwc.backends.tvm.tuned import Tuned, numbers

Array = npt.NDArray[Any]
NAME = "main"
ANOTHER_ORDER = 1e-4  # by how much of the largest sum others may differ


def build(signature: Any, candidate: Any, machine: Machine, inputs: list[Array]) -> Any:
    """Machine code of the kernel alone, an Executable; its function NAME takes the inputs, then the result.

    inputs: as `operands` gives them. Raises whatever TVM raises.
    """
    known = Tuned(((repr(signature), numbers(candidate)),))
    machine = replace(machine, tuned=known)
    func = _function(signature, candidate, inputs).with_attr("global_symbol", NAME)
    done = scheduled(func, machine).with_attr("tirx.is_scheduled", True)
    return generate(IRModule({NAME: done}), machine)


def work(signature: Any) -> float:
    """Multiplications of one run, or steps like them."""
    if isinstance(signature, Sums):
        return work(signature.conv)
    if isinstance(signature, Conv):
        return float(signature.batch * signature.out_height * signature.out_width * signature.out_channels
                     * signature.steps)  # fmt: skip
    if isinstance(signature, Fused):
        return signature.work
    if isinstance(signature, Sizes):
        return float(signature.rows * signature.columns * signature.depth)
    product: Product = signature
    return float(product.height * product.width * product.outputs * product.kernel_y * product.kernel_x
                 * product.inputs)  # fmt: skip


def operands(signature: Any, candidate: Any, seed: int = 0) -> tuple[list[Array], Array]:
    """Arguments, data and weights as the candidate wants them first, and what the result is written into.

    The same numbers for all candidates: their results must agree.
    """
    random = np.random.default_rng(seed)
    if isinstance(signature, Fused):
        return signature.operands(random)
    if isinstance(signature, Conv):
        conv = signature
        sizes = (conv.channels, conv.height, conv.width) if conv.planes else (conv.height, conv.width, conv.channels)
        data = _floats(random, conv.batch, *sizes)
        weight = _floats(random, conv.out_channels, conv.kernel_height, conv.kernel_width, conv.group_in)
        out = np.zeros(_outputs(conv), np.float32)
        transformed = isinstance(candidate, Winograd)
        return [data, pack_transformed(weight, candidate) if transformed else pack(weight, conv, candidate)], out
    if isinstance(signature, Sums):
        conv = signature.conv
        data = _numbers(random, signature.data, conv.batch, conv.height, conv.width, conv.channels)
        weight = _numbers(random, "int8", conv.out_channels, conv.kernel_height, conv.kernel_width, conv.channels)
        return [data, packed_bytes(weight, signature, candidate)], np.zeros(_outputs(conv), np.int32)
    if isinstance(signature, Sizes):
        data = _floats(random, signature.rows, signature.depth)
        weight = _floats(random, signature.depth, signature.columns)
        return [data, panels(weight, candidate.width)], np.zeros((signature.rows, signature.columns), np.float32)
    return _of_tiles(signature, candidate, random)


def _outputs(conv: Conv) -> tuple[int, int, int, int]:
    return conv.batch, conv.out_height, conv.out_width, conv.out_channels


def _of_tiles(product: Product, block: Any, random: np.random.Generator) -> tuple[list[Array], Array]:
    rows = (product.height - 1) * product.stride_y + product.kernel_y
    columns = (product.width - 1) * product.stride_x + product.kernel_x
    inner = _numbers(random, product.dtype, 1, rows, columns, product.inputs)
    weight_type = product.dtype if product.dtype == BITS else "int8"
    weight = _numbers(random, weight_type, product.outputs, product.kernel_y, product.kernel_x, product.inputs)
    height, width = padded_shape(product, block)
    data = np.zeros((1, height, width, product.inputs), inner.dtype)
    data[:, :rows, :columns] = inner[:, :height, :width]
    out = np.zeros((1, product.height, product.width, product.outputs), INSTRUCTIONS[product.dtype][1])
    return [data, packed_weight(weight, product, block), configuration(block)], out


def _function(signature: Any, candidate: Any, inputs: list[Array]) -> tirx.PrimFunc:
    if isinstance(signature, Fused):
        return signature.func
    if isinstance(signature, Product):
        return kernel(signature, candidate)
    data, weight = (
        te.placeholder(array.shape, str(array.dtype), name=name)
        for array, name in zip(inputs, ("data", "weight"), strict=True)
    )
    if isinstance(signature, Sums):
        shape = _outputs(signature.conv)
        return te.create_prim_func([data, weight, sums_of(data, weight, signature, candidate, shape)])
    if isinstance(signature, Conv):
        write = winograd if isinstance(candidate, Winograd) else direct
        return te.create_prim_func([data, weight, write(data, weight, signature, candidate)])
    return te.create_prim_func([data, weight, panel_product(data, weight, signature.columns)])


def _floats(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape, np.float32)


def _numbers(random: np.random.Generator, dtype: str, *shape: int) -> Array:
    if dtype == BITS:
        return _floats(random, *shape).astype(ml_dtypes.bfloat16).view(np.uint16)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def agree(one: Array, other: Array) -> bool:
    """Whether two candidates computed the same, but for the order of their sums."""
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    largest = float(np.abs(one).max(initial=0.0))
    return bool(np.abs(one - other).max(initial=0.0) <= ANOTHER_ORDER * largest)
