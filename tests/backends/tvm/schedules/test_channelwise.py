import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.channelwise import Strip
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph
from lwc.backends.tvm.tuned import Tuned
from lwc.compiler.core.target import host

WIDE = Machine.of(host())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    channels=st.sampled_from([1, 3, 8, 16, 21, 40]),
    size=st.integers(4, 17),
    kernel=st.integers(2, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 1),
    ceil=st.booleans(),
    counted=st.booleans(),
    machine=st.sampled_from([WIDE, NARROW]),
)
def test_any_pooling_beside_a_convolution_agrees_with_onnxruntime(
    op: str, channels: int, size: int, kernel: int, stride: int, pad: int, ceil: bool, counted: bool, machine: Machine
) -> None:
    weight = np.random.default_rng(0).normal(size=(channels, 2, 1, 1)).astype("float32")
    more = {"count_include_pad": int(counted)} if op == "AveragePool" else {}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node(
            op, ["c"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            ceil_mode=int(ceil and not counted), **more,
        ),
    ]  # fmt: skip
    assert difference(graph(nodes, (1, 2, size, size), {"w": weight}), machine) < FP32_SUMS


def test_pooling_of_convolved_data_changes_no_layout_between_them() -> None:
    weight = np.ones((16, 3, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("AveragePool", ["p"], ["y"], kernel_shape=[2, 2]),
    ]
    names = functions(graph(nodes, (1, 3, 12, 12), {"w": weight}), WIDE)
    assert sum("transpose" in name for name in names) <= 2
    assert any("max_pool" in name for name in names)
    assert any("avg_pool" in name for name in names)


@pytest.mark.parametrize("machine", [WIDE, NARROW])
def test_one_weight_for_each_channel_agrees_with_onnxruntime(machine: Machine) -> None:
    weight = np.random.default_rng(0).normal(size=(24, 1, 1, 1)).astype("float32")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=24)
    assert difference(graph([node], (2, 24, 9, 13), {"w": weight}), machine) < FP32_SUMS


def test_pooling_of_one_channel_by_windows_of_one_pixel_agrees_with_onnxruntime() -> None:
    weight = np.ones((1, 8, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[1, 1]),
    ]
    assert difference(graph(nodes, (2, 8, 9, 13), {"w": weight}), WIDE) < FP32_SUMS


@pytest.mark.parametrize("rows", [1, 2, 4, 9])
@pytest.mark.parametrize("pixels", [1, 3, 5])
def test_any_strip_computes_the_same(rows: int, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tuned, "best", lambda *_: Strip(rows, pixels))
    weight = np.random.default_rng(0).normal(size=(24, 1, 3, 3)).astype("float32")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=24, pads=[1, 1, 1, 1])
    assert difference(graph([node], (2, 24, 9, 5), {"w": weight}), WIDE) < FP32_SUMS
