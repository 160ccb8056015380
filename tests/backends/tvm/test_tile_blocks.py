"""Blocks of tiles: they fit the registers, stay within the data, and packing keeps every weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm")

from lwc.backends.tvm.tile_blocks import (
    BYTES,
    REGISTERS,
    Product,
    best_block,
    configuration,
    packed_weight,
    padded_shape,
)

products = st.builds(
    Product,
    height=st.integers(1, 60), width=st.integers(1, 60), inputs=st.integers(1, 200), outputs=st.integers(1, 70),
    dtype=st.sampled_from(["uint8", "int8", "uint16"]), kernel_y=st.integers(1, 3), kernel_x=st.integers(1, 3),
    stride_y=st.integers(1, 2), stride_x=st.integers(1, 2),
)  # fmt: skip


@given(products)
def test_blocks_fit_the_registers_and_stay_within_the_data(product: Product) -> None:
    block = best_block(product)
    sums = block.down * block.across * block.wide
    assert sums + 1 + block.wide <= REGISTERS
    rows, columns = padded_shape(product, block)
    last_row = (-(-product.height // block.down) * block.down - 1) * product.stride_y + product.kernel_y - 1
    last_column = (-(-product.width // block.pixels) * block.pixels - 1) * product.stride_x
    end = ((last_row * columns + last_column) * product.inputs) * product.itemsize + product.steps * BYTES
    assert end <= rows * columns * product.inputs * product.itemsize


@given(products)
def test_configuration_names_rows_only_of_tiles_in_use(product: Product) -> None:
    block = best_block(product)
    found = configuration(block)
    rows, widths = found[48:56], found[16:32].view(np.uint16)
    used = block.down * block.across * block.wide + 1 + block.wide
    assert (rows > 0).sum() == used
    assert ((widths == BYTES) == (rows > 0)).all()


@given(products)
def test_packing_loses_no_weight(product: Product) -> None:
    shape = (product.outputs, product.kernel_y, product.kernel_x, product.inputs)
    dtype = np.uint16 if product.dtype == "uint16" else np.int8
    weight = (np.arange(np.prod(shape)) % 100 + 1).astype(dtype).reshape(shape)
    assert packed_weight(weight, product, best_block(product)).astype(np.int64).sum() == weight.astype(np.int64).sum()
