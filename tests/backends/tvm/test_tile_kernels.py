"""Products on AMX tiles against NumPy; what needs the instructions is skipped where they are not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

tvm = pytest.importorskip("tvm")

from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.schedules.tiles import tiles  # noqa: E402
from lwc.backends.tvm.tile_blocks import (  # noqa: E402
    Product,
    best_block,
    configuration,
    packed_weight,
    padded_shape,
)
from lwc.backends.tvm.tile_kernels import INSTRUCTIONS, kernel  # noqa: E402
from lwc.compiler.core.target import host  # noqa: E402

MACHINE = Machine.of(host())
needs_tiles = pytest.mark.skipif(not MACHINE.tiles, reason="this processor multiplies no tiles")

products = st.builds(
    Product,
    height=st.integers(1, 7), width=st.integers(1, 33), inputs=st.integers(1, 70), outputs=st.integers(1, 70),
    dtype=st.sampled_from([*INSTRUCTIONS]), kernel_y=st.integers(1, 3), kernel_x=st.integers(1, 3),
    stride_y=st.integers(1, 2), stride_x=st.integers(1, 2),
)  # fmt: skip


@needs_tiles
@settings(max_examples=25, deadline=None)
@given(products, st.integers(0, 2**32 - 1))
def test_sums_are_those_of_numpy(product: Product, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = _numbers(random, (1, *padded_shape(product, best_block(product)), product.inputs), product.dtype)
    weight_type = "uint16" if product.dtype == "uint16" else "int8"
    weight = _numbers(random, (product.outputs, product.kernel_y, product.kernel_x, product.inputs), weight_type)
    expected = _expected(_value(data), _value(weight), product)
    found = _run(product, data, weight)
    if product.dtype == "uint16":
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    else:
        np.testing.assert_array_equal(found, expected)


def _numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if dtype == "uint16":
        return (random.normal(size=shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def _value(array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def _expected(data: NDArray[np.float64], weight: NDArray[np.float64], product: Product) -> NDArray[np.float64]:
    total = np.zeros((1, product.height, product.width, product.outputs))
    for ky, kx in itertools.product(range(product.kernel_y), range(product.kernel_x)):
        bottom = (product.height - 1) * product.stride_y + ky + 1
        right = (product.width - 1) * product.stride_x + kx + 1
        total += data[:, ky : bottom : product.stride_y, kx : right : product.stride_x] @ weight[:, ky, kx].T
    return total


def _run(product: Product, data: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    block = best_block(product)
    scheduled = tiles(kernel(product, block).with_attr("global_symbol", "main"), MACHINE)
    library = tvm.compile(tvm.IRModule({"main": scheduled}), target=tvm.target.Target(MACHINE.llvm()))
    out = np.zeros((1, product.height, product.width, product.outputs), INSTRUCTIONS[product.dtype][1])
    arrays = [tvm.runtime.tensor(a) for a in (data, packed_weight(weight, product, block), configuration(block), out)]
    library["main"](*arrays)
    return np.asarray(arrays[-1].numpy())
