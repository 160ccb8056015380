from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
RUNS = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Layer:
    batch: int
    groups: int
    inputs: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def fits(self) -> bool:
        """Whether some output remains."""
        return all(
            self.size[i] + self.pads[i] + self.pads[i + 2] > (self.kernel[i] - 1) * self.dilations[i] for i in (0, 1)
        )


def pairs(most: int, least: int = 1) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


LAYERS = st.builds(
    Layer,
    batch=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2, 3]),
    inputs=st.integers(1, 9),
    outputs=st.sampled_from([1, 3, 10, 16, 24, 33]),
    size=pairs(19),
    kernel=pairs(5),
    strides=pairs(3),
    dilations=pairs(2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
).filter(Layer.fits)


def model(layer: Layer, depthwise: bool = False, epilogue: str = "Relu") -> onnx.ModelProto:
    """A convolution with a bias and an activation."""
    rng = np.random.default_rng(1)
    channels = layer.inputs * layer.groups
    outputs, groups = (channels, channels) if depthwise else (layer.outputs * layer.groups, layer.groups)
    weight = rng.normal(size=(outputs, channels // groups, *layer.kernel)).astype("float32")
    conv = helper.make_node(
        "Conv", ["x", "w", "b"], ["c"], group=groups, strides=layer.strides, dilations=layer.dilations, pads=layer.pads
    )
    weights = {"w": weight, "b": rng.normal(size=outputs).astype("float32")}
    shape = (layer.batch, channels, *layer.size)
    return graph([conv, helper.make_node(epilogue, ["c"], ["y"])], shape, weights)


@pytest.mark.parametrize("machine", [WIDE, NARROW], ids=["wide", "narrow"])
@RUNS
@given(layer=LAYERS)
def test_any_convolution_agrees_with_onnxruntime(machine: Machine, layer: Layer) -> None:
    assert difference(model(layer), machine) < FP32_SUMS


@RUNS
@given(layer=LAYERS, machine=st.sampled_from([WIDE, NARROW]))
def test_any_depthwise_convolution_agrees_with_onnxruntime(layer: Layer, machine: Machine) -> None:
    assume(layer.inputs * layer.groups > 1)
    assert difference(model(layer, depthwise=True), machine) < FP32_SUMS


@pytest.mark.parametrize("epilogue", ["HardSwish", "Sigmoid", "Elu", "Identity"])
def test_what_follows_is_computed_in_the_store(epilogue: str) -> None:
    layer = Layer(1, 1, 8, 20, (9, 9), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
    assert difference(model(layer, epilogue=epilogue), WIDE) < FP32_SUMS


def test_a_residual_is_added_in_the_store() -> None:
    rng = np.random.default_rng(2)
    weight = {"w": rng.normal(size=(8, 8, 3, 3)).astype("float32")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "c"], ["s"]),
        helper.make_node("Clip", ["s", "", "six"], ["y"]),
    ]
    proto = graph(nodes, (1, 8, 7, 7), weight | {"six": np.array(6.0, np.float32)})
    assert difference(proto, WIDE) < FP32_SUMS
    assert sum("conv" in name for name in functions(proto, WIDE)) == 1


SIZES = {"w": (5, 4, 1, 1), "r": (1, 1, 6, 1)}


def test_a_gate_of_every_row_meets_merged_rows() -> None:
    """A factor per row, not per pixel or channel, behind a pointwise convolution whose rows are merged."""
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(size=size).astype("float32") for name, size in SIZES.items()}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "r"], ["y"])]
    assert difference(graph(nodes, (2, 4, 6, 5), weights), WIDE) < FP32_SUMS


def test_sums_stay_in_registers_rather_than_in_blocks_of_the_fallback() -> None:
    layer = Layer(1, 1, 16, 32, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    script = next(func.script() for name, func in functions(model(layer), WIDE).items() if "conv" in name)
    assert "acc = T.alloc_buffer(" in script
    assert "T.sblock(" not in script.replace('T.sblock("root")', "")


@pytest.mark.parametrize("size", [(3, 400), (1, 40)])
def test_a_wide_kernel_does_not_write_out_its_taps(size: tuple[int, int]) -> None:
    """Padded first: a border of hundreds of taps would be megabytes of code."""
    layer = Layer(1, 1, 3, 20, size, (1, 129), (1, 2), (1, 1), (0, 64, 0, 64))
    proto = model(layer)
    assert sum(len(func.script()) for func in functions(proto, WIDE).values()) < 30_000
    assert difference(proto, WIDE) < FP32_SUMS


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_one_dimension_is_a_height_of_one(groups: int) -> None:
    weight = {"w": np.random.default_rng(4).normal(size=(6, 6 // groups, 3)).astype("float32")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=groups, pads=[2, 1], strides=[2], dilations=[2]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    proto = graph(nodes, (2, 6, 23), weight)
    assert difference(proto, WIDE) < FP32_SUMS
    assert any("conv2d" in name for name in functions(proto, WIDE))


def test_a_first_layer_reads_planes() -> None:
    layer = Layer(2, 1, 3, 16, (19, 21), (7, 7), (2, 2), (1, 1), (3, 3, 3, 3))
    names = functions(model(layer), WIDE)
    assert sum("transpose" in name for name in names) == 1  # of the output alone
    assert difference(model(layer), WIDE) < FP32_SUMS


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_large_image_is_not_copied_before_it_is_convolved(kernel: int) -> None:
    pad = kernel // 2
    layer = Layer(1, 1, 16, 16, (80, 96), (kernel, kernel), (1, 1), (1, 1), (pad, pad, pad, pad))
    assert not any("pad" in name for name in functions(model(layer), WIDE))
