import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())


def normalized(channels: int, size: int, beta: float, alpha: float = 0.5, bias: float = 2.0) -> onnx.ModelProto:
    """Between a convolution and pooling, whose layout is another than LRN's in ONNX."""
    weight = np.random.default_rng(0).normal(size=(channels, 3, 1, 1)).astype("float32")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("LRN", ["c"], ["n"], size=size, alpha=alpha, beta=beta, bias=bias),
        helper.make_node("MaxPool", ["n"], ["y"], kernel_shape=[2, 2]),
    ]
    return graph(nodes, (2, 3, 5, 6), {"w": weight})


@pytest.mark.parametrize("machine", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize(
    ("channels", "size", "beta"), [(64, 5, 0.75), (20, 3, 0.5), (7, 9, 1.3), (5, 1, 0.75), (33, 41, 0.75), (1, 3, 2.0)]
)
def test_lrn_is_onnxruntimes(channels: int, size: int, beta: float, machine: Machine) -> None:
    assert difference(normalized(channels, size, beta), machine) < FP32_SUMS


def test_lrn_keeps_the_layout_and_calls_no_function_lane_by_lane() -> None:
    found = functions(normalized(64, 5, 0.75), WIDE)
    assert sum("transpose" in name for name in found) <= 2  # of the input and the output
    band = next(func for name, func in found.items() if "band" in name)
    assert "T.pow(" not in band.script()


@pytest.mark.parametrize("change", ["shifted", "a hole", "another value", "dense"])
def test_weights_near_a_band_are_multiplied_as_they_are(change: str) -> None:
    weight = np.eye(24, k=0) + np.eye(24, k=1)
    if change == "shifted":
        weight = np.eye(24, k=3) + np.eye(24, k=4)  # a band that begins behind its channel
    elif change == "a hole":
        weight[5, 5] = 0
    elif change == "another value":
        weight[5, 6] = 2
    else:
        weight = np.random.default_rng(1).normal(size=(24, 24))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    proto = graph(nodes, (1, 24, 4, 5), {"w": weight.astype("float32").reshape(24, 24, 1, 1)})
    assert difference(proto, WIDE) < FP32_SUMS
