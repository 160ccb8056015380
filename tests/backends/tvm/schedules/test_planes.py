"""Pixels gathered from planes and from blocks against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")
from tvm import te, tirx, topi

from lwc.backends.tvm.schedules.planes import MOST_CHANNELS, planes
from lwc.backends.tvm.testing import NARROW, computed


@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 2), channels=st.integers(2, 4), height=st.integers(1, 5), width=st.integers(2, 9),
    block=st.integers(1, 3), pads=st.tuples(*[st.integers(0, 2)] * 4), around=st.integers(0, 1),
)  # fmt: skip
def test_blocks_with_padding_and_zeros_around_it(
    batch: int, channels: int, height: int, width: int, block: int, pads: tuple[int, ...], around: int
) -> None:
    shape = (batch, channels, height * block, width * block)
    top, left, bottom, right = pads
    data = te.placeholder(_long(*shape), "float32", name="data")
    codes = te.compute(_long(*shape), lambda *at: (data(*at) * 3.0).astype("uint8"), name="codes")
    split = topi.reshape(codes, _long(batch, channels, height, block, width, block))
    blocks = topi.reshape(topi.transpose(split, (0, 3, 5, 1, 2, 4)), _long(batch, channels * block**2, height, width))
    padded = topi.nn.pad(blocks, _long(0, 0, top, left), _long(0, 0, bottom, right), tirx.const(7, "uint8"))
    pixels = topi.transpose(padded, (0, 2, 3, 1))
    out = topi.nn.pad(pixels, _long(0, 0, 0, 0), _long(0, around, 0, 0), tirx.const(0, "uint8")) if around else pixels

    assert planes(te.create_prim_func([data, out]).with_attr("global_symbol", "main"), NARROW) is not None
    array = np.random.default_rng(width).uniform(0, 80, shape).astype("float32")
    want = (array * np.float32(3)).astype("uint8").reshape(batch, channels, height, block, width, block)
    want = want.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height, width)
    want = np.pad(want, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=7).transpose(0, 2, 3, 1)
    want = np.pad(want, [(0, 0), (0, around), (0, 0), (0, 0)])
    np.testing.assert_array_equal(computed([data, out], [array], NARROW), want)


def test_what_it_takes() -> None:
    assert _planes((1, 3, 8, 10), 3, (0, 2, 3, 1))
    assert not _planes((1, MOST_CHANNELS + 1, 8, 10), 3, (0, 2, 3, 1))
    assert not _planes((1, 8, 10, 3), 2, (0, 1, 2, 3))  # in order already: other rules make vectors of it
    assert not _planes((3, 8, 10), 2, (1, 2, 0))


def _planes(shape: tuple[int, ...], padded: int, axes: tuple[int, ...]) -> Any:
    """Padded along one axis, and then transposed."""
    data = te.placeholder(_long(*shape), "float32", name="data")
    before = _long(*(int(axis == padded) for axis in range(len(shape))))
    out = topi.transpose(topi.nn.pad(data, before, before, 0.0), axes)
    return planes(te.create_prim_func([data, out]).with_attr("global_symbol", "main"), NARROW)


def _long(*sizes: int) -> list[Any]:
    """Of the type that Relax gives to sizes."""
    return [tirx.const(size, "int64") for size in sizes]
