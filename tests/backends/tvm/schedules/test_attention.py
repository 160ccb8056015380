import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
RUNS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.sampled_from([1, 3, 8, 17, 32, 65])
STEPS = {
    "plain": [("Softmax", "s", "p")],
    "scaled": [("Div", "s scale", "t"), ("Softmax", "t", "p")],
    "masked": [("Mul", "s scale", "t"), ("Add", "mask t", "u"), ("Softmax", "u", "p")],
    "chosen": [("Where", "keep s least", "t"), ("Softmax", "t", "p")],
}


def model(batch: int, heads: int, rows: int, depth: int, columns: int, values: int, kind: str) -> onnx.ModelProto:
    """softmax(x K) V with what comes between, and a residual."""
    rng = np.random.default_rng(1)
    weights = {
        "k": rng.normal(size=(1, heads, depth, columns)).astype("float32"),
        "v": rng.normal(size=(1, heads, columns, values)).astype("float32"),
        "scale": np.array(0.3, np.float32),
        "mask": np.where(rng.random((1, 1, 1, columns)) < 0.3, -1e4, 0).astype("float32"),
        "keep": rng.random((rows, columns)) < 0.7,
        "least": np.array(-1e4, np.float32),
        "one": np.array(1, np.float32),
    }
    steps = [("MatMul", "x k", "s"), *STEPS[kind], ("MatMul", "p v", "o"), ("Add", "o one", "y")]
    nodes = [helper.make_node(op, inputs.split(), [result]) for op, inputs, result in steps]
    return graph(nodes, (batch, heads, rows, depth), weights)


@pytest.mark.parametrize("kind", STEPS)
@RUNS
@given(st.integers(1, 2), st.integers(1, 3), SIZES, SIZES, SIZES, SIZES, st.sampled_from([WIDE, NARROW]))
def test_attention_of_any_size(kind, batch, heads, rows, depth, columns, values, machine) -> None:
    assert difference(model(batch, heads, rows, depth, columns, values, kind), machine) < FP32_SUMS


@pytest.mark.parametrize("kind", STEPS)
def test_scores_are_never_written_as_a_whole(kind: str) -> None:
    scripts = [func.script() for func in functions(model(1, 2, 128, 32, 128, 32, kind), WIDE).values()]
    [whole] = [script for script in scripts if "T_softmax_exp" in script]
    assert "T.sblock(" not in whole.replace('T.sblock("root")', "")


def test_softmax_along_another_axis_is_no_attention() -> None:
    proto = model(1, 2, 16, 8, 16, 8, "plain")
    proto.graph.node[1].attribute.append(helper.make_attribute("axis", 2))
    assert difference(proto, WIDE) < FP32_SUMS
    assert not any("matmul" in name and "softmax" in name for name in functions(proto, WIDE))
