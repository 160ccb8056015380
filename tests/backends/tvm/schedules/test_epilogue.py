from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")
from tvm import te, tirx

from lwc.backends.tvm.legalize_pooling import windows
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.channelwise import LOWEST
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.schedules.epilogue import epilogue, first_block
from lwc.backends.tvm.testing import NARROW, computed
from lwc.compiler.core.target import host

HEIGHT, CHANNELS = 6, 16


def pooled_into(rows: int) -> tuple[te.Tensor, te.Tensor]:
    """Data [1, 6, 6, 16] and the greatest of 2 x 2 neighbours [1, 5, 5, 16], in the upper left of `rows` squared."""
    data = te.placeholder((1, HEIGHT, HEIGHT, CHANNELS))
    window = Conv(1, HEIGHT, HEIGHT, CHANNELS, 5, 5, CHANNELS, 2, 2, 1, 1, 0, 0, 1, 1, CHANNELS)
    most = windows(data, window, "lwc.maximum", LOWEST["float32"])

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        return tirx.if_then_else(tirx.all(y < 5, x < 5), most[n, y, x, c], tirx.const(0, "float32"))

    return data, te.compute((1, rows, rows, CHANNELS), element)


@pytest.mark.parametrize("rows", [4, 7])
def test_what_makes_more_or_fewer_elements_is_no_epilogue(rows: int) -> None:
    assert epilogue(first_block(te.create_prim_func(pooled_into(rows)))[0]) is None
    assert epilogue(first_block(te.create_prim_func(pooled_into(5)))[0]) is not None


@pytest.mark.parametrize("machine", [Machine.of(host()), NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("rows", [4, 7])
def test_zeros_behind_a_window_are_written_and_what_is_cut_off_is_not(rows: int, machine: Machine) -> None:
    x = np.random.default_rng(0).normal(size=(1, HEIGHT, HEIGHT, CHANNELS)).astype("float32")
    most = np.max([x[:, a : a + 5, b : b + 5] for a in (0, 1) for b in (0, 1)], axis=0)
    want = np.zeros((1, rows, rows, CHANNELS), np.float32)
    want[:, :5, :5] = most[:, :rows, :rows]
    np.testing.assert_array_equal(computed(pooled_into(rows), [x], machine), want)
