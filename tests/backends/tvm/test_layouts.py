import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph

WEIGHTS = {
    "w": np.random.default_rng(0).normal(size=(8, 5, 3, 3)).astype("float32"),
    "v": np.random.default_rng(1).normal(size=(4, 8, 3, 3)).astype("float32"),
}
SHAPE = (1, 5, 9, 10)


def between(op: str, operand: np.ndarray | None = None) -> onnx.ModelProto:
    """x through a convolution, an elementwise operator, and another convolution."""
    inputs = ["c"] if operand is None else ["c", "operand"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node(op, inputs, ["e"]),
        helper.make_node("Conv", ["e", "v"], ["y"]),
    ]
    return graph(nodes, SHAPE, WEIGHTS | ({} if operand is None else {"operand": operand}))


@pytest.mark.parametrize("shape", [(), (1,), (8, 1, 1), (1, 8, 1, 1), (7, 8), (7, 1)])
@pytest.mark.parametrize("op", ["Mul", "Sub"])
def test_a_constant_of_any_rank_keeps_the_layout(op: str, shape: tuple[int, ...]) -> None:
    proto = between(op, np.random.default_rng(2).normal(size=shape).astype("float32"))
    assert sum("transpose" in name for name in functions(proto, NARROW)) == 2  # of the input and the output
    assert difference(proto, NARROW) < FP32_SUMS


@pytest.mark.parametrize("op", ["HardSigmoid", "HardSwish", "Clip", "Relu", "Sigmoid"])
def test_an_activation_keeps_the_layout(op: str) -> None:
    proto = between(op)
    assert sum("transpose" in name for name in functions(proto, NARROW)) == 2
    assert difference(proto, NARROW) < FP32_SUMS


def test_many_planes_are_transposed_once_and_few_are_read_as_they_come() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    few = graph(nodes, (1, 3, 9, 9), {"w": WEIGHTS["w"][:, :3].copy()})
    many = graph(nodes, SHAPE, {"w": WEIGHTS["w"]})
    counts = [sum("transpose" in name for name in functions(proto, NARROW)) for proto in (few, many)]
    assert counts == [1, 2]
    assert difference(few, NARROW) < FP32_SUMS


@pytest.mark.parametrize(("channels", "groups", "pads"), [(32, 2, 0), (48, 3, 1), (4, 2, 1)])
def test_bytes_in_groups_are_convolved_group_by_group(channels: int, groups: int, pads: int) -> None:
    random = np.random.default_rng(3)
    weight = random.integers(-127, 127, size=(2 * channels, channels // groups, 3, 3)).astype("int8")
    one, zero = np.float32(0.02), np.int8(0)
    scales = {"sx": one, "sw": one, "zx": zero, "zw": zero, "codes": weight}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        helper.make_node("DequantizeLinear", ["codes", "sw", "zw"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["y"], group=groups, pads=[pads] * 4),
    ]
    proto = graph(nodes, (1, channels, 7, 8), {name: np.asarray(value) for name, value in scales.items()})
    kernels = functions(proto, NARROW)
    assert any("bytes" in name for name in kernels)
    assert difference(proto, NARROW) < FP32_SUMS
