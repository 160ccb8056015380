"""8-bit floats around products: the numbers are those of the format, and ONNX Runtime runs them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lwc.backends.onnxruntime.session import create, session_options
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Float8, Plan, Range, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import (
    FP8,
    FP32,
    assert_keeps_promises,
    assert_valid,
    disagreement,
    draw_feeds,
    run_onnxruntime,
)
from lwc.models.tiny.text import graph
from lwc.passes.precision.float8 import QuantizeFloat8, float8_values, scaled

TARGET = NAMED["cpu:x86-64-v4"]
REACH = 4.0
PRODUCTS = {
    "MatMul": "(float[3,16] x) => (float[3,8] y) <float[16,8] w> { y = MatMul(x, w) }",
    "MatMul of a stack": "(float[2,3,16] x) => (float[2,3,8] y) <float[2,16,8] w> { y = MatMul(x, w) }",
    "Gemm": """(float[3,16] x) => (float[3,8] y) <float[8,16] w, float[8] b>
        { y = Gemm <transB = 1, alpha = 0.5> (x, w, b) }""",
    "Conv": "(float[1,4,6,6] x) => (float[1,8,4,4] y) <float[8,4,3,3] w, float[8] b> { y = Conv(x, w, b) }",
    "MatMul, Relu, MatMul": """(float[3,16] x) => (float[3,8] y) <float[16,16] w, float[16,8] v>
        { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }""",
    "Conv, Conv": """(float[1,4,6,6] x) => (float[1,8,2,2] y) <float[8,4,3,3] w, float[8,8,3,3] v>
        { h = Conv(x, w) y = Conv(h, v) }""",
    "MatMul, Transpose, MatMul": """(float[3,16] x) => (float[8,8] y) <float[16,8] w, float[3,8] v>
        { h = MatMul(x, w) t = Transpose(h) y = MatMul(t, v) }""",
}  # fmt: skip


def model_of(text: str, opset: int = 19) -> ir.Model:
    model = graph(text, opset)()
    for node in model.graph:
        node.name = node.name or node.outputs[0].name
    infer_shapes(model)
    return model


def plan_of(model: ir.Model, format_: str = "e4m3") -> Plan:
    sites = {Site(n.name or "", n.op_type): Float8(format_) for n in model.graph}
    return Plan(sites, {name: Range(-REACH, REACH) for name in float8_values(model, sites)})


def quantize(model: ir.Model, plan: Plan, *, pairs: bool = False) -> Outcome:
    outcome = assert_keeps_promises(model, QuantizeFloat8(pairs), PassContext(TARGET, plan))
    assert_valid(model)
    return outcome


@pytest.mark.parametrize("opset", [19, 21, 23])
@pytest.mark.parametrize("format_", ["e4m3", "e5m2"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_run_and_stay_close(name: str, format_: str, opset: int) -> None:
    before = model_of(PRODUCTS[name], opset)
    after = before.clone()
    assert len(quantize(after, plan_of(before, format_)).changed) == sum(
        node.op_type not in ("Relu", "Transpose") for node in before.graph
    )
    feeds = draw_feeds(before)
    for a, b in zip(*(run_onnxruntime(ir.to_proto(m), feeds) for m in (before, after)), strict=True):
        assert not disagreement(a, b, FP8)


@pytest.mark.parametrize("format_", ["e4m3", "e5m2"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_pairs_say_the_same_as_casts(name: str, format_: str) -> None:
    """Without ONNX Runtime's optimizations, which take the pairs for integers."""
    model = model_of(PRODUCTS[name])
    plan, feeds = plan_of(model, format_), draw_feeds(model)
    options = session_options(TARGET.with_threads(1))
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    results = []
    for pairs in (False, True):
        fork = model.clone()
        quantize(fork, plan, pairs=pairs)
        session = create(ir.to_proto(fork).SerializeToString(), options, name)
        results.append(session.run(None, feeds)[0])
    assert not disagreement(*results, FP32)


@pytest.mark.parametrize("format_", ["e4m3", "e5m2"])
def test_the_numbers_are_those_of_the_format(format_: str) -> None:
    before = model_of(PRODUCTS["MatMul"])
    after = before.clone()
    quantize(after, plan_of(before, format_))
    x = draw_feeds(before)["x"]
    dtype = ml_dtypes.float8_e4m3fn if format_ == "e4m3" else ml_dtypes.float8_e5m2
    largest = np.float32(448 if format_ == "e4m3" else 57344)
    step = np.float32(REACH) / largest
    weight = before.graph.initializers["w"].const_value
    assert weight is not None
    steps = np.abs(weight.numpy()).max(0) / largest
    rounded = (x / step).astype(dtype).astype(np.float32) * step
    codes = (weight.numpy() / steps).astype(dtype).astype(np.float32) * steps
    assert not disagreement(rounded @ codes, run_onnxruntime(ir.to_proto(after), {"x": x})[0], FP32)


def test_what_goes_beyond_the_range_is_clipped() -> None:
    before = model_of(PRODUCTS["MatMul"])
    after = before.clone()
    quantize(after, plan_of(before))
    y = run_onnxruntime(ir.to_proto(after), {"x": np.full((3, 16), 1e6, np.float32)})[0]
    assert np.isfinite(y).all()
    limit = run_onnxruntime(ir.to_proto(after), {"x": np.full((3, 16), REACH, np.float32)})[0]
    np.testing.assert_array_equal(y, limit)


def test_a_value_is_rounded_once_for_all_readers() -> None:
    model = model_of("""(float[3,8] x) => (float[3,8] y) <float[8,8] w, float[8,8] v>
        { p = MatMul(x, w) q = MatMul(x, v) y = Add(p, q) }""")
    plan = plan_of(model)
    quantize(model, plan)
    assert sum(node.op_type == "Div" for node in model.graph) == 1


def test_weights_take_a_byte_each() -> None:
    model = model_of(PRODUCTS["Conv"])
    quantize(model, plan_of(model))
    assert "w" not in model.graph.initializers
    assert model.graph.initializers["w.fp8"].dtype == ir.DataType.FLOAT8E4M3FN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[3,3] x) => (float[3,3] y) { y = MatMul(x, x) }", "only products by a constant weight"),
        ("(float[3,3] x) => (float[3,3] y) { y = Exp(x) }", "there is no integer kernel for Exp"),
        ("(float[2,2] x) => (float[2,2] y) <float[2,2] w = {nan, 1, 1, 1}> { y = MatMul(x, w) }", "not finite"),
    ],
)
def test_what_cannot_be_8_bits_says_why(text: str, reason: str) -> None:
    model = model_of(text.replace("nan", "1"))
    if "nan" in text:
        value = model.graph.initializers["w"]
        value.const_value = ir.tensor(np.array([[np.nan, 1], [1, 1]], np.float32), name="w")
    outcome = QuantizeFloat8().run(model, PassContext(TARGET, plan_of(model)))
    assert reason in outcome.skipped[0].reason
    assert not outcome.changed


def test_a_missing_range_is_a_reason() -> None:
    model = model_of(PRODUCTS["MatMul"])
    outcome = QuantizeFloat8().run(model, PassContext(TARGET, Plan({Site("y", "MatMul"): Float8()})))
    assert outcome.skipped[0].reason == "the plan has no range for its input 'x'"


def test_older_opsets_are_refused() -> None:
    model = model_of(PRODUCTS["MatMul"], 17)
    with pytest.raises(UnsupportedOpset, match="fp8 needs 19"):
        QuantizeFloat8().run(model, PassContext(TARGET, plan_of(model)))


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([None, 0, 1]),
)
def test_scaled_weights_are_off_by_a_sixteenth_of_themselves_or_by_the_smallest_step(
    weight: np.ndarray, axis: int | None
) -> None:
    """E4M3 has 3 bits of mantissa: half a step is 2^-4 of a number, or half of its smallest, 2^-10, of the scale."""
    codes, scale = scaled(weight, axis, ir.DataType.FLOAT8E4M3FN)
    assert scale.size == (1 if axis is None else weight.shape[axis])
    error = np.abs(codes.astype(np.float64) * scale - weight)
    assert (error <= np.maximum(np.abs(weight) * 2.0**-4, scale * 2.0**-10) * (1 + 1e-5)).all()
