"""Quantized graphs on TVM against ONNX Runtime: the same codes, give or take one where a sum lies between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

tvm = pytest.importorskip("tvm")
onnxruntime = pytest.importorskip("onnxruntime")
from tvm import relax  # noqa: E402

from lwc.backends.tvm.importer import import_model  # noqa: E402
from lwc.backends.tvm.lowering.integer import on_codes  # noqa: E402
from lwc.backends.tvm.lowering.quantized import is_quantized  # noqa: E402
from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.pipeline import generate, lower, plan  # noqa: E402
from lwc.backends.tvm.program import compile_program  # noqa: E402
from lwc.backends.tvm.testing import NARROW  # noqa: E402
from lwc.compiler.core.model import Model  # noqa: E402
from lwc.compiler.core.target import host  # noqa: E402

HOST = Machine.of(host())
MACHINES = {"host": HOST, "vectors": replace(HOST, tiles=False), "plain": NARROW}
X_SCALE, Y_SCALE = 0.05, 0.11
# Of all codes: those whose sums lie so near between two codes that another order of float operations decides.
ROUNDED_OTHERWISE = 0.02


class Net:
    """A graph that is put together node by node. x: float32 of `shape`;  y: codes, uint8"""

    def __init__(self, shape: Sequence[int], zero_point: int = 113, kind: str = "uint8") -> None:
        self.shape, self.random = list(shape), np.random.default_rng(2)
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.x = self.dequantized(self.quantized("x", X_SCALE, zero_point, kind), X_SCALE, zero_point, kind)

    def add(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array: object, kind: str) -> str:
        name = f"c{len(self.arrays)}"
        self.arrays[name] = np.asarray(array, kind)
        return name

    def quantized(self, value: str, scale: float, zero_point: int, kind: str = "uint8") -> str:
        return self.add("QuantizeLinear", [value, self.constant(scale, "float32"), self.constant(zero_point, kind)])

    def dequantized(self, codes: str, scale: float, zero_point: int, kind: str = "uint8") -> str:
        return self.add("DequantizeLinear", [codes, self.constant(scale, "float32"), self.constant(zero_point, kind)])

    def weight(self, shape: Sequence[int], axis: int, zero_point: int = 0) -> str:
        """Random codes with a scale for each index of an axis, sized so that sums of products are near one."""
        codes = self.constant(self.random.integers(-127, 128, shape), "int8")
        size = shape[axis]
        scale = self.random.uniform(0.2, 1, size) / 64 / np.sqrt(np.prod(shape) / size)
        inputs = [codes, self.constant(scale, "float32"), self.constant(np.full(size, zero_point), "int8")]
        return self.add("DequantizeLinear", inputs, axis=axis)

    def bias(self, weight: str) -> str:
        made = next(node for node in self.nodes if node.output[0] == weight)
        scale = self.arrays[made.input[1]] * np.float32(X_SCALE)
        codes = self.constant(self.random.integers(-1000, 1000, scale.shape), "int32")
        return self.add("DequantizeLinear", [codes, self.constant(scale, "float32")], axis=0)

    def model(self, value: str, zero_point: int = 31) -> onnx.ModelProto:
        """With `value` quantized as the output."""
        codes = self.quantized(value, Y_SCALE, zero_point)
        inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(codes, onnx.TensorProto.UINT8, None)]
        arrays = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "quantized", inputs, outputs, arrays)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def assert_same_codes(proto: onnx.ModelProto, machine: Machine, *, fused: bool = True) -> None:
    """fused: ONNX Runtime computes on codes, too"""
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(7).normal(size=shape).astype(np.float32) * 2
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    want = session.run(None, {"x": x})[0].astype(int)
    _, run = compile_program(import_model(Model.from_proto(proto)), machine).start()
    found = run(tvm.runtime.tensor(x)).numpy().astype(int)
    assert found.shape == want.shape
    assert len(np.unique(want)) > 4  # else nothing is compared
    assert np.abs(found - want).max() <= 1
    assert (found != want).mean() <= ROUNDED_OTHERWISE


def integer_sums(proto: onnx.ModelProto) -> list[str]:
    """Operators that give 32-bit sums, once what can be is computed on codes."""
    found: list[str] = []

    def note(node: relax.Expr) -> None:
        if isinstance(node, relax.Call) and str(getattr(node.ty, "dtype", "")) == "int32":
            found.append(node.op.name)

    relax.analysis.post_order_visit(on_codes(import_model(Model.from_proto(proto)))["main"], note)
    return [name for name in found if name in ("relax.nn.conv2d", "relax.matmul")]


CONVS = {
    "three channels, kernel 7, stride 2": ((1, 3, 23, 21), (20, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "odd channels, uneven padding": ((2, 5, 9, 14), (33, 5, 3, 2), {"pads": [0, 1, 2, 0]}),
    "pointwise": ((1, 24, 10, 7), (40, 24, 1, 1), {}),
    "pointwise, stride 2": ((1, 17, 9, 8), (16, 17, 1, 1), {"strides": [2, 2]}),
    "dilated": ((1, 8, 15, 15), (6, 8, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "depthwise": ((1, 19, 12, 13), (19, 1, 3, 3), {"group": 19, "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    "groups": ((1, 12, 8, 8), (18, 4, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("machine", MACHINES)
def test_convolution_of_codes(name: str, machine: str) -> None:
    shape, weights, attributes = CONVS[name]
    net = Net(shape)
    weight = net.weight(weights, 0)
    conv = net.add("Conv", [net.x, weight, net.bias(weight)], **attributes)
    proto = net.model(net.add("Relu", [conv]), 0)
    assert integer_sums(proto) == ["relax.nn.conv2d"]
    assert_same_codes(proto, MACHINES[machine])


@settings(max_examples=8, deadline=None)
@given(
    channels=st.integers(1, 40), outputs=st.integers(1, 70), size=st.integers(4, 13), kernel=st.integers(1, 3),
    stride=st.integers(1, 2), pad=st.integers(0, 1), machine=st.sampled_from(["host", "vectors"]),
)  # fmt: skip
def test_any_convolution_of_codes(
    channels: int, outputs: int, size: int, kernel: int, stride: int, pad: int, machine: str
) -> None:
    net = Net((1, channels, size, size + 3))
    weight = net.weight((outputs, channels, kernel, kernel), 0)
    conv = net.add("Conv", [net.x, weight, net.bias(weight)], strides=[stride] * 2, pads=[pad] * 4)
    assert_same_codes(net.model(conv, 128), MACHINES[machine])


@pytest.mark.parametrize("machine", MACHINES)
def test_blocks_of_pixels_as_channels(machine: str) -> None:
    net = Net((1, 3, 18, 22))
    blocks = net.add("SpaceToDepth", [net.x], blocksize=2)
    weight = net.weight((20, 12, 2, 2), 0)
    conv = net.add("Conv", [blocks, weight, net.bias(weight)], pads=[1, 1, 0, 0])
    assert_same_codes(net.model(conv, 128), MACHINES[machine])


def test_sums_are_not_written_to_memory() -> None:
    net = Net((1, 16, 12, 12))
    module = import_model(Model.from_proto(net.model(net.add("Conv", [net.x, net.weight((96, 16, 1, 1), 0)]))))
    machine = replace(HOST, tiles=False)
    code = generate(plan(lower(module, machine), machine), machine)
    assert not any("AllocWorkspace" in part.inspect_source("ll") for part in code.mod.imports if part.kind == "llvm")


@pytest.mark.parametrize(("shape", "k", "o"), [((1, 37), 37, 10), ((7, 64), 64, 50), ((2, 5, 30), 30, 17)])
@pytest.mark.parametrize(("kind", "zero_point"), [("uint8", 100), ("int8", -9), ("int8", 0)])
@pytest.mark.parametrize("machine", MACHINES)
def test_product_of_codes(shape: tuple[int, ...], k: int, o: int, kind: str, zero_point: int, machine: str) -> None:
    net = Net(shape, zero_point, kind)
    proto = net.model(net.add("MatMul", [net.x, net.weight((k, o), 1)]))
    assert integer_sums(proto) == ["relax.matmul"]
    assert_same_codes(proto, MACHINES[machine])


def test_dot_products_of_arm() -> None:
    machine = Machine("aarch64-linux-gnu", "generic", ("+neon", "+dotprod"), 16, 32, 1 << 15, 1 << 19, 2, "sdot")
    net = Net((1, 24, 6, 7))
    proto = net.model(net.add("Conv", [net.x, net.weight((20, 24, 3, 3), 0)], pads=[1, 1, 1, 1]))
    code = generate(plan(lower(import_model(Model.from_proto(proto)), machine), machine), machine)
    assert any("sdot" in part.inspect_source("asm") for part in code.mod.imports if part.kind == "llvm")


def test_signed_data_with_padding() -> None:
    net = Net((1, 6, 9, 9), 0, "int8")
    proto = net.model(net.add("Conv", [net.x, net.weight((9, 6, 3, 3), 0)], pads=[1, 1, 1, 1]))
    for machine in MACHINES.values():
        assert_same_codes(proto, machine)


def test_gemm_with_transposed_weight() -> None:
    net = Net((4, 21))
    weight = net.weight((13, 21), 0)
    proto = net.model(net.add("Gemm", [net.x, weight, net.bias(weight)], transB=1))
    assert integer_sums(proto) == ["relax.matmul"]
    assert_same_codes(proto, HOST)


def test_a_float_sum_that_two_nodes_read() -> None:
    net = Net((1, 16, 8, 8))
    first = net.add("Conv", [net.x, net.weight((16, 16, 3, 3), 0)], pads=[1, 1, 1, 1])
    total = net.add("Relu", [net.add("Add", [net.dequantized(net.quantized(first, 0.1, 90), 0.1, 90), net.x])])
    inner = net.dequantized(net.quantized(total, 0.07, 0), 0.07, 0)
    second = net.add("Conv", [inner, net.weight((16, 16, 1, 1), 0)])
    second = net.dequantized(net.quantized(second, 0.1, 120), 0.1, 120)
    proto = net.model(net.add("Relu", [net.add("Add", [second, total])]), 0)
    for machine in MACHINES.values():
        assert_same_codes(proto, machine)


def test_codes_are_moved_pooled_and_joined_as_bytes() -> None:
    net = Net((1, 4, 8, 8))
    pooled = net.add("MaxPool", [net.x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    joined = net.add("Concat", [pooled, pooled], axis=1)
    turned = net.add("Transpose", [joined], perm=[0, 2, 3, 1])
    proto = net.model(net.add("Reshape", [turned, net.constant([1, -1], "int64")]))
    body = on_codes(import_model(Model.from_proto(proto)))["main"].script()
    assert "R.nn.max_pool2d" in body
    assert body.count("R.dequantize") == 1
    assert body.index("R.dequantize") > body.index("R.concat")
    assert_same_codes(proto, HOST)


def test_joined_codes_of_unlike_scales_are_scaled_first() -> None:
    net = Net((1, 4, 8, 8))
    other = net.dequantized(net.quantized(net.x, 0.02, 7), 0.02, 7)
    assert_same_codes(net.model(net.add("Concat", [net.x, other], axis=1)), HOST)


def test_average_of_codes() -> None:
    net = Net((1, 4, 8, 8))
    assert_same_codes(net.model(net.add("AveragePool", [net.x], kernel_shape=[2, 2]), 128), HOST)


def test_weights_with_a_zero_point_are_multiplied_as_floats() -> None:
    net = Net((3, 20))
    proto = net.model(net.add("MatMul", [net.x, net.weight((20, 8), 1, zero_point=5)]))
    assert integer_sums(proto) == []
    assert_same_codes(proto, HOST)


def test_one_scale_for_each_row_of_a_product_is_multiplied_as_floats() -> None:
    net = Net((3, 20))
    proto = net.model(net.add("MatMul", [net.x, net.weight((20, 8), 0)]))
    assert integer_sums(proto) == []
    assert_same_codes(proto, HOST, fused=False)  # ONNX Runtime would refuse to


def test_float_models_are_left_alone() -> None:
    net = Net((1, 4))
    net.nodes.clear()
    proto = net.model(net.add("Relu", ["x"]))
    del proto.graph.node[-1]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("v0", onnx.TensorProto.FLOAT, [1, 4]))
    module = import_model(Model.from_proto(proto))
    assert not is_quantized(module)
    assert on_codes(module) is module
