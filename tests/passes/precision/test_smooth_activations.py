from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler.analysis.activations import collect
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Site
from lwc.compiler.data import Calibration
from lwc.compiler.testing import CONTEXT, FP32, Tolerance, assert_equivalent, assert_keeps_promises, draw_feeds, parse
from lwc.passes.precision.smooth_activations import Method, SmoothActivations
from lwc.passes.precision.smoothing_groups import read_by, smoothable

RNG = np.random.default_rng(0)
TARGET = replace(OnnxRuntime().narrow(CONTEXT.target), threads=1)
# Shifted by the middle of channels forty times wider than the others, sums cancel more.
SHIFTED = Tolerance("fp32 with a shift", 2e-5, 2e-4)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def outlying(channels: int) -> np.ndarray:
    """gamma of a normalization with a few large channels."""
    return np.where(np.arange(channels) % 5 == 0, 30.0, 1.0).astype(np.float32)


def model_of(text: str, **weights: np.ndarray) -> ir.Model:
    model = parse(text, **weights)
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    return model


def open_session(model: Model, outputs: Sequence[str]) -> Session:
    return OnnxRuntime().session(model, TARGET, outputs)


def context_of(model: ir.Model, gram: bool = True, count: int = 60) -> PassContext:
    """Statistics of every layer with a weight, from a few random samples."""
    whole = Model(model, "study")
    sites = [Site(node.name or "", node.op_type) for node in model.graph if len(node.inputs) > 1]
    session = open_session(whole, [])
    samples = Calibration.open([draw_feeds(model, seed) for seed in range(count)], session.inputs)
    return PassContext(TARGET, stats=collect(whole, sites, samples, open_session, gram=gram, channels=True))


def smoothed(model: ir.Model, tolerance: Tolerance = SHIFTED, gram: bool = True, **options: Any) -> ir.Model:
    """All that can be smoothed is, and the function stays."""
    after = model.clone()
    sites = smoothable(model, restore=options.get("restore", False))
    outcome = assert_keeps_promises(after, SmoothActivations(sites, **options), context_of(model, gram))
    assert outcome.changed
    assert not outcome.skipped
    assert_equivalent(model, after, tolerance=tolerance)
    assert not [name for name, value in after.graph.initializers.items() if not value.uses()]
    return after


def largest_ratio(model: ir.Model, name: str) -> float:
    """Between the ranges of the channels that the first input of a node has."""
    whole = Model(model, "study")
    node = next(node for node in model.graph if node.name == name)
    value = node.inputs[0]
    assert value is not None
    session = open_session(whole, [value.name or ""])
    array = session.run(draw_feeds(model))[value.name or ""]
    reach = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
    return float(reach.max() / reach.min())


NORM = "g (float[2, 9, 10] x) => (float[a, b, c] y) {{ t = LayerNormalization(x, g{0})\n {1} }}"
METHODS: tuple[Method, ...] = ("outliers", "search", "alpha", "repq")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beta", ["", ", b"])
def test_outliers_of_a_normalization_go_into_the_weights_behind_it(method: Method, beta: str) -> None:
    weights = {"g": outlying(10), "w": floats(10, 6), "e": floats(6)} | ({"b": 20 * floats(10)} if beta else {})
    model = model_of(NORM.format(beta, "u = MatMul(t, w)\n y = Add(u, e)"), **weights)
    after = smoothed(model, method=method)
    assert largest_ratio(after, "n1") < 0.5 * largest_ratio(model, "n1")
    assert [node.op_type for node in after.graph] == ["LayerNormalization", "MatMul", "Add"]


def test_a_matmul_without_a_bias_takes_no_shift() -> None:
    model = model_of(NORM.format("", "y = MatMul(t, w)"), g=outlying(10), w=floats(10, 6))
    after = smoothed(model, FP32)
    assert [v is not None for v in next(iter(after.graph)).inputs] == [True, True]


def test_all_readers_take_the_same_scales() -> None:
    text = NORM.format("", "q = MatMul(t, w)\n k = MatMul(t, v)\n y = Add(q, k)")
    smoothed(model_of(text, g=outlying(10), w=floats(10, 6), v=floats(10, 6)), FP32)


def test_a_reader_that_is_no_layer_is_a_reason_to_skip() -> None:
    text = NORM.format("", "u = MatMul(t, w)\n y = Add(u, t)")
    model = model_of(text, g=outlying(10), w=floats(10, 10))
    assert not smoothable(model)
    outcome = SmoothActivations(("n0",)).run(model, context_of(model))
    assert not outcome.changed
    assert "(Add) is in the way" in outcome.skipped[0].reason


@pytest.mark.parametrize("bias", ["y = Add(s, t)", "r = Add(s, e)\n y = Add(r, t)"])
def test_other_readers_get_the_value_restored(bias: str) -> None:
    weights = {"g": outlying(10), "w": floats(10, 10)} | ({"e": floats(10)} if "e)" in bias else {})
    model = model_of(NORM.format("", f"s = MatMul(t, w)\n {bias}"), **weights)
    after = smoothed(model, restore=True)
    added = ["Mul", "Add"] if "e)" in bias else ["Mul"]
    assert [node.op_type for node in after.graph][1 : 1 + len(added)] == added
    assert largest_ratio(after, "n1") < 0.5 * largest_ratio(model, "n1")


@pytest.mark.parametrize("gram", [True, False])
def test_a_gemm_takes_the_shift_in_its_bias(gram: bool) -> None:
    text = (
        "g (float[9, 10] x) => (float[a, b] y) { t = LayerNormalization(x, g, b)\n"
        " y = Gemm<alpha=0.5, beta=2.0, transB=1>(t, w, e) }"
    )
    weights = {"g": outlying(10), "b": 20 * floats(10), "w": floats(6, 10), "e": floats(6)}
    smoothed(model_of(text, **weights), gram=gram)
    weights.pop("e")
    after = smoothed(model_of(text.replace(", e)", ")"), **weights), gram=gram)
    assert len(list(after.graph)[1].inputs) == 3


def test_a_linear_layer_takes_the_scales_through_a_relu_but_no_shift() -> None:
    text = "g (float[9, 10] x) => (float[a, b] y) { t = Gemm(x, w, e)\n u = Relu(t)\n y = Gemm(u, v) }"
    after = smoothed(model_of(text, w=floats(10, 10) * outlying(10), e=floats(10), v=floats(10, 4)), FP32)
    assert len(list(after.graph)[2].inputs) == 2


@pytest.mark.parametrize("pads", ["", "<pads=[1, 1, 1, 1]>"])
def test_convolutions_shift_only_where_nothing_is_padded(pads: str) -> None:
    text = f"g (float[2, 3, 8, 8] x) => (float[a, b, c, d] y) {{ t = Conv(x, w, e)\n y = Conv{pads}(t, v) }}"
    weights = {"w": floats(10, 3, 3, 3) * outlying(10).reshape(-1, 1, 1, 1), "e": 30 * floats(10)}
    after = smoothed(model_of(text, **weights, v=floats(4, 10, 3, 3)), method="alpha")
    assert len(list(after.graph)[1].inputs) == (2 if pads else 3)


def test_the_values_of_attention_are_smoothed_for_the_projection_behind_it() -> None:
    text = (
        "g (float[2, 5, 6] x, float[2, 3, 5, 5] p) => (float[a, b, c] y)"
        "<int64[4] split = {2, 5, 3, 2}, int64[3] join = {2, 5, 6}> { t = MatMul(x, w)\n s = Reshape(t, split)\n"
        " h = Transpose<perm=[0, 2, 1, 3]>(s)\n m = MatMul(p, h)\n k = Transpose<perm=[0, 2, 1, 3]>(m)\n"
        " j = Reshape(k, join)\n y = MatMul(j, v) }"
    )
    model = model_of(text, w=floats(6, 6) * outlying(6), v=floats(6, 4))
    assert [site.name for site in read_by(model, "n0")] == ["n6"]
    smoothed(model, FP32)


def test_without_statistics_nothing_happens_and_says_so() -> None:
    model = model_of(NORM.format("", "y = MatMul(t, w)"), g=outlying(10), w=floats(10, 6))
    outcome = SmoothActivations(smoothable(model)).run(model, CONTEXT)
    assert not outcome.changed
    assert "no statistics per channel" in outcome.skipped[0].reason


def test_ranges_that_few_positions_show_are_not_trusted() -> None:
    model = model_of(NORM.format("", "y = MatMul(t, w)"), g=outlying(10), w=floats(10, 6))
    outcome = SmoothActivations(smoothable(model)).run(model, context_of(model, count=4))
    assert outcome.skipped[0].reason == "only 72 positions were seen; 256 are needed"


def test_a_scale_that_a_shared_gamma_takes_leaves_its_other_readers_alone() -> None:
    text = NORM.format("", "u = MatMul(t, w)\n r = LayerNormalization(x, g)\n y = Add(u, r)")
    model = model_of(text, g=outlying(10), w=floats(10, 10))
    after = smoothed(model, FP32)
    gammas = {node.inputs[1] for node in after.graph if node.op_type == "LayerNormalization"}
    assert len(gammas) == 2


def test_int8_loses_less_behind_it(study: Callable[..., Any]) -> None:
    text = (
        "g (float[2, 9, 20] x) => (float[2, 9, 6] y)"
        " { t = LayerNormalization(x, g, b)\n u = MatMul(t, w)\n y = Add(u, e) }"
    )
    weights = {"g": outlying(20), "b": 20 * floats(20), "w": floats(20, 6), "e": floats(6)}
    weights["w"] /= outlying(20)[:, None]
    before = study(text, weights)
    model = before.before.fork()
    SmoothActivations(smoothable(model.ir)).run(model.ir, context_of(model.ir))
    assert study(model).sqnr() > before.sqnr() + 6
