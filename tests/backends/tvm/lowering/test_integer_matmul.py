import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

pytest.importorskip("tvm")

from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.importer import import_model
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

RUNS = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def product(rows: int, depth: int, columns: int, a_kind: str, b_kind: str, zeros: str) -> Model:
    rng = np.random.default_rng(depth)
    limits = np.iinfo(b_kind)
    b = rng.integers(limits.min, limits.max + 1, (depth, columns)).astype(b_kind)
    middle = 128 if b_kind == "uint8" else 0
    weights = {"b": b, "az": np.array(3, a_kind), "bz": np.array(middle + (zeros == "odd") * 5, b_kind)}
    x = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(a_kind)), (2, rows, depth))
    y = helper.make_tensor_value_info("y", 6, (2, rows, columns))
    names = ["x", "b", "az", "bz"][: {"none": 2, "data": 3}.get(zeros, 4)]
    arrays = [numpy_helper.from_array(weights[name], name) for name in names[1:]]
    node = helper.make_node("MatMulInteger", names, ["y"])
    graph = helper.make_graph([node], "product", [x], [y], arrays)
    return Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@RUNS
@given(
    st.integers(1, 9), st.integers(1, 70), st.integers(1, 40), st.sampled_from(["uint8", "int8"]),
    st.sampled_from(["uint8", "int8"]), st.sampled_from(["none", "data", "both", "odd"]),
)  # fmt: skip
def test_sums_are_those_of_the_formula(rows, depth, columns, a_kind, b_kind, zeros) -> None:
    if zeros in ("none", "data") and b_kind == "uint8":
        zeros = "both"
    model = product(rows, depth, columns, a_kind, b_kind, zeros)
    limits = np.iinfo(a_kind)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (2, rows, depth)).astype(a_kind)
    arrays = {value.name: numpy_helper.to_array(value) for value in model.to_proto().graph.initializer}
    az, bz = (arrays.get(name, np.array(0)).astype(np.int32) for name in ("az", "bz"))
    want = (x.astype(np.int32) - az) @ (arrays["b"].astype(np.int32) - bz)
    np.testing.assert_array_equal(Tvm().session(model, host()).run({"x": x})["y"], want)


def test_weights_stay_bytes() -> None:
    text = import_model(product(4, 8, 8, "uint8", "int8", "both"))["main"].script()
    assert "R.matmul(x, " in text
    assert 'out_dtype="int32"' in text
