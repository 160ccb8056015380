"""Products by weights in 8 and 4 bits against ONNX Runtime, and how they are kept."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

tvm = pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model  # noqa: E402
from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.program import compile_program  # noqa: E402
from lwc.backends.tvm.testing import FP32_SUMS, NARROW  # noqa: E402
from lwc.compiler.core.model import Model  # noqa: E402
from lwc.compiler.core.target import host  # noqa: E402

WIDE = Machine.of(host())
RUNS = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DEPTH, COLUMNS = 163, 128
ROUNDED = 4  # the accuracy level
# Halfway between two codes ONNX Runtime and we may round differently: one of 127 steps in one of the inputs.
ONE_STEP = 2e-3


def bits_product(
    rows: int, depth: int, columns: int, bits: int, block: int, *, zeros: bool = False, level: int = 0
) -> onnx.ModelProto:
    """MatMulNBits, a bias and a Relu."""
    random = np.random.default_rng(depth + columns)
    blocks = -(-depth // block)
    weights = {
        "q": random.integers(0, 256, (columns, blocks, block * bits // 8)).astype("uint8"),
        "s": random.uniform(0.5, 1, columns * blocks).astype("float16").astype("float32"),
        "z": random.integers(0, 256, columns * -(-blocks * bits // 8)).astype("uint8"),
        "b": random.normal(size=columns).astype("float32"),
    }
    names = ["x", "q", "s", "z"] if zeros else ["x", "q", "s"]
    weights = {name: array for name, array in weights.items() if zeros or name != "z"}
    product = helper.make_node(
        "MatMulNBits", names, ["p"], domain="com.microsoft", N=columns, K=depth, bits=bits, block_size=block,
        accuracy_level=level,
    )  # fmt: skip
    nodes = [product, helper.make_node("Add", ["p", "b"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    return model(nodes, (rows, depth), weights)


def model(nodes: list[onnx.NodeProto], shape: tuple[int, ...], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    x, y = (helper.make_tensor_value_info(name, 1, size) for name, size in (("x", shape), ("y", None)))
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "coded", [x], [y], arrays), opset_imports=imports, ir_version=10)


def error(proto: onnx.ModelProto, machine: Machine = WIDE) -> float:
    """The greatest difference from ONNX Runtime over the greatest of its outputs."""
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # else it rounds data, too
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    want = session.run(None, {"x": x})[0]
    _, run = compile_program(import_model(Model.from_proto(proto, "coded")), machine).start()
    return float(np.abs(run(tvm.runtime.tensor(x)).numpy() - want).max() / max(np.abs(want).max(), 1e-6))


@RUNS
@given(
    st.sampled_from([1, 2, 7, 40]), st.sampled_from([16, 33, 96, 129]), st.sampled_from([1, 16, 50, 130]),
    st.sampled_from([4, 8]), st.sampled_from([16, 32, 64, 128]), st.booleans(), st.sampled_from([WIDE, NARROW]),
)  # fmt: skip
def test_float_products_are_exact(rows, depth, columns, bits, block, zeros, machine) -> None:
    assert error(bits_product(rows, depth, columns, bits, block, zeros=zeros), machine) < FP32_SUMS


@RUNS
@given(
    st.sampled_from([1, 2, 7, 40]), st.sampled_from([32, 64, 100, 129]), st.sampled_from([1, 16, 50, 130]),
    st.sampled_from([4, 8]), st.sampled_from([16, 32, 64, 128]), st.booleans(),
)  # fmt: skip
def test_products_of_rounded_data_round_as_onnx_runtime_does(rows, depth, columns, bits, block, zeros) -> None:
    near = ONE_STEP if WIDE.dot_int8 == "vnni" else 0.05
    assert error(bits_product(rows, depth, columns, bits, block, zeros=zeros, level=ROUNDED)) < near


def test_a_block_of_zeros_is_no_division_by_zero() -> None:
    proto = bits_product(1, 64, 32, 4, 32, level=ROUNDED)
    _, run = compile_program(import_model(Model.from_proto(proto, "coded")), WIDE).start()
    bias = numpy_helper.to_array(next(array for array in proto.graph.initializer if array.name == "b"))
    got = run(tvm.runtime.tensor(np.zeros((1, 64), "float32"))).numpy()
    np.testing.assert_array_equal(got, np.maximum(bias, 0)[None])


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("block", [0, 5, 16])
def test_dequantized_matrices(kind: str, block: int) -> None:
    proto = dequantized(kind, block, transposed=False)
    assert error(proto) < FP32_SUMS
    assert kept_bytes(proto) < 3 * DEPTH * COLUMNS


def test_a_dequantized_matrix_that_is_transposed_first() -> None:
    proto = dequantized("int8", 0, transposed=True)
    assert error(proto) < FP32_SUMS
    assert kept_bytes(proto) < 3 * DEPTH * COLUMNS


def dequantized(kind: str, block: int, *, transposed: bool) -> onnx.ModelProto:
    """x by DequantizeLinear(w) [DEPTH, COLUMNS], one scale for each column or block of rows."""
    random, limits = np.random.default_rng(4), np.iinfo(kind)
    count = -(-DEPTH // block) if block else 1
    scales = (count, COLUMNS) if block else (COLUMNS,)
    codes = random.integers(limits.min, limits.max + 1, (DEPTH, COLUMNS)).astype(kind)
    weights = {
        "w": codes.T.copy() if transposed else codes,
        "s": random.uniform(0.5, 1, scales).astype("float32"),
        "z": random.integers(0, 9, scales).astype(kind),
    }
    attributes = {"axis": 0, "block_size": block} if block else {"axis": 0 if transposed else 1}
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], **attributes)]
    if transposed:
        nodes.append(helper.make_node("Transpose", ["d"], ["t"]))
    nodes.append(helper.make_node("MatMul", ["x", "t" if transposed else "d"], ["y"]))
    return model(nodes, (3, DEPTH), weights)


@pytest.mark.parametrize(("bits", "level"), [(4, 0), (4, ROUNDED), (8, 0), (8, ROUNDED)])
def test_codes_stay_packed(bits: int, level: int) -> None:
    size = kept_bytes(bits_product(1, 256, 128, bits, 32, level=level))
    codes, scales = 256 * 128 * bits // 8, 256 * 128 // 32 * 2
    assert codes <= size < (codes + scales) * 1.1 + 1024


def test_a_matrix_that_is_read_as_numbers_too_becomes_numbers() -> None:
    proto = dequantized("int8", 16, transposed=False)
    proto.graph.node.append(helper.make_node("Add", ["d", "d"], ["e"]))
    proto.graph.node.append(helper.make_node("MatMul", ["x", "e"], ["f"]))
    proto.graph.node.append(helper.make_node("Add", ["y", "f"], ["both"]))
    proto.graph.output[0].name = "both"
    assert error(proto) < FP32_SUMS


def kept_bytes(proto: onnx.ModelProto) -> int:
    """Of the constants beside the code."""
    program = compile_program(import_model(Model.from_proto(proto, "coded")), WIDE)
    return sum(int(np.prod(tensor.shape)) * np.dtype(str(tensor.dtype)).itemsize for tensor in program.weights)
