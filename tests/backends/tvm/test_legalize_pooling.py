"""Windows of bytes and of floats against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")
from tvm import te

from lwc.backends.tvm.legalize_pooling import windows
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.channelwise import LOWEST, channelwise
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.testing import NARROW, computed
from lwc.compiler.core.target import host

HOST = Machine.of(host())


@settings(max_examples=12, deadline=None)
@given(
    dtype=st.sampled_from([*LOWEST]),
    channels=st.sampled_from([1, 3, 17, 64, 70, 130]),
    size=st.integers(3, 12),
    kernel=st.integers(2, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
    machine=st.sampled_from([HOST, NARROW]),
)
def test_greatest_of_each_window(
    dtype: str, channels: int, size: int, kernel: int, stride: int, pad: int, machine: Machine
) -> None:
    out = (size + 2 * pad - kernel) // stride + 1
    window = Conv(2, size, size, channels, out, out, channels, kernel, kernel, stride, stride, pad, pad, 1, 1, channels)
    data = te.placeholder((2, size, size, channels), dtype, name="data")
    tensors = [data, windows(data, window, "lwc.maximum", LOWEST[dtype])]
    assert channelwise(te.create_prim_func(tensors).with_attr("global_symbol", "main"), machine) is not None
    low, high = (0, 256) if dtype == "uint8" else (-100, -5)  # zeros around the data would be seen
    array = np.random.default_rng(size).integers(low, high, (2, size, size, channels)).astype(dtype)
    padded = np.pad(array, [(0, 0), (pad, pad), (pad, pad), (0, 0)], constant_values=LOWEST[dtype])
    taps = [
        padded[:, y : y + stride * out : stride, x : x + stride * out : stride][:, :out, :out]
        for y, x in itertools.product(range(kernel), repeat=2)
    ]
    np.testing.assert_array_equal(computed(tensors, [array], machine), np.max(taps, axis=0))
