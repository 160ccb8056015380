"""Masked weights in the graph: patterns in every layout, biases, statistics, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Masked, Plan, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.testing import CONTEXT, assert_keeps_promises, assert_valid, run_onnxruntime
from lwc.models import digits
from lwc.models.tiny.text import graph
from lwc.passes import clean
from lwc.passes.sparsity.mask_weights import MaskWeights

CONV = graph("""(float[N,8,6,6] x) => (float[N,6,6,6] y) <float[6,8,3,3] w, float[6] b>
    { y = Conv <pads = [1,1,1,1]> (x, w, b) }""")
BARE = graph("(float[N,8,6,6] x) => (float[N,6,4,4] y) <float[6,8,3,3] w> { y = Conv(x, w) }")
GROUPED = graph("""(float[N,8,6,6] x) => (float[N,6,6,6] y) <float[6,4,3,3] w, float[6] b>
    { y = Conv <group = 2, pads = [1,1,1,1]> (x, w, b) }""")
GEMM = graph("(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[1,6] b> { y = Gemm(x, w, b) }")
TURNED = graph("(float[N,8] x) => (float[N,6] y) <float[6,8] w> { y = Gemm <transB = 1, alpha = 0.5> (x, w) }")
PRODUCT = graph("(float[N,3,8] x) => (float[N,3,6] y) <float[8,6] w> { y = MatMul(x, w) }")
LEFT = graph("(float[8,5] x) => (float[6,5] y) <float[6,8] w> { y = MatMul(w, x) }")
POINT = graph("(float[N,8,6,6] x) => (float[N,6,6,6] y) <float[6,8,1,1] w> { y = Conv(x, w) }")
LAYERS = {"conv": CONV, "bare": BARE, "grouped": GROUPED, "gemm": GEMM, "turned": TURNED, "product": PRODUCT,
          "left": LEFT, "point": POINT}  # fmt: skip
SITE = Site("y", "?", "mask")
layers = pytest.mark.parametrize("name", LAYERS)


def built(name: str) -> ir.Model:
    model = LAYERS[name]()
    model.graph[0].name = "y"
    infer_shapes(model)
    return model


def drawn(model: ir.Model, count: int = 8) -> list[dict[str, np.ndarray]]:
    """Samples with means away from zero, and channels that go together."""
    shape = [dim if isinstance(dim, int) else 2 for dim in model.graph.inputs[0].shape]
    rng = np.random.default_rng(3)
    axis = 0 if len(shape) == 2 and shape[0] == 8 else 1 if len(shape) in (2, 4) else 2
    mixing = rng.normal(size=(8, 8)) * (np.arange(8) + 1.0)[:, None] ** -0.7
    arrays = [np.moveaxis(rng.normal(size=shape), axis, -1) @ mixing + np.arange(8) / 4 for _ in range(count)]
    return [{"x": np.moveaxis(array, -1, axis).astype(np.float32)} for array in arrays]


def context(choice: Masked, stats: dict[Site, LayerStats] | None = None) -> PassContext:
    return PassContext(CONTEXT.target, Plan({SITE: choice}), stats or {})


def weight_of(model: ir.Model) -> np.ndarray:
    """[out, kernel, in]"""
    node = model.graph[0]
    index = 0 if node.inputs[0].is_initializer() else 1
    array = node.inputs[index].const_value.numpy()
    if node.op_type == "Conv":
        return np.moveaxis(array, 1, -1).reshape(len(array), -1, array.shape[1])
    return (array if index == 0 or node.attributes.get_int("transB", 0) else array.T)[:, None]


def loss(before: ir.Model, after: ir.Model, samples: list[dict[str, np.ndarray]]) -> float:
    pairs = [[run_onnxruntime(ir.to_proto(model), feeds)[0] for model in (before, after)] for feeds in samples]
    return float(sum(np.square(a - b).sum() for a, b in pairs))


@layers
@pytest.mark.parametrize("update", ["magnitude", "none", "dsnot", "admm", "least-squares", "obs"])
def test_of_four_channels_under_a_tap_two_stay(statistics, name: str, update: str) -> None:
    model = built(name)
    before, samples = model.clone(), drawn(model)
    stats = statistics(model, samples)
    outcome = assert_keeps_promises(model, MaskWeights(), context(Masked("2:4", update), stats))
    assert outcome == Outcome((SITE,))
    kept = weight_of(model) != 0
    assert (kept.reshape(*kept.shape[:2], -1, 4).sum(axis=3) == 2).all()
    assert_valid(model)
    assert loss(before, model, samples) > 0


@layers
def test_solved_weights_lose_less_than_masks_alone(statistics, name: str) -> None:
    model = built(name)
    samples = drawn(model)
    stats = statistics(model, samples)
    losses = {}
    for update in ("magnitude", "none", "least-squares"):
        fork = model.clone()
        MaskWeights().run(fork, context(Masked("2:4", update), stats))
        losses[update] = loss(model, fork, samples)
    assert losses["least-squares"] < 0.7 * losses["none"]


@pytest.mark.parametrize("name", ["point", "gemm"])
def test_the_bias_takes_over_the_mean_of_the_error(statistics, name: str) -> None:
    model = built(name)
    samples = drawn(model)
    stats = statistics(model, samples)
    fork = model.clone()
    MaskWeights().run(fork, context(Masked("1:4", "none"), stats))
    pairs = [[run_onnxruntime(ir.to_proto(m), feeds)[0] for m in (model, fork)] for feeds in samples]
    error = np.moveaxis(np.stack([b - a for a, b in pairs]), 2, 0).reshape(6, -1)
    assert (np.abs(error.mean(axis=1)) < 0.02 * error.std(axis=1)).all()


@pytest.mark.parametrize("pattern", ["block:2x1", "block:3x4"])
def test_blocks_of_a_product_leave_whole(statistics, pattern: str) -> None:
    model = built("product")
    stats = statistics(model, drawn(model))
    assert_keeps_promises(model, MaskWeights(), context(Masked(pattern, "admm", 0.5), stats))
    rows, columns = map(int, pattern.removeprefix("block:").split("x"))
    kept = (weight_of(model)[:, 0] != 0).reshape(6 // rows, rows, 8 // columns, columns)
    whole = kept.all(axis=(1, 3))
    assert np.array_equal(whole, kept.any(axis=(1, 3)))
    assert (whole.sum(axis=1) == 8 // columns // 2).all()


def test_forks_share_what_was_solved(statistics) -> None:
    model = built("conv")
    ctx = context(Masked("2:4", "least-squares"), statistics(model, drawn(model)))
    forks = [model.clone(), model.clone()]
    for fork in forks:
        MaskWeights().run(fork, ctx)
    first, second = (fork.graph[0].inputs[1].const_value.numpy() for fork in forks)
    assert first is second
    assert digest(forks[0]) == digest(forks[1]) != digest(model)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[2,8] x) => (float[2,8] z) <float[8,8] w> { y = MatMul(x, w) z = MatMul(y, w) }", "shared with 'z'"),
        ("(float[2,8] x, float[8,8] w) => (float[2,8] y) { y = MatMul(x, w) }", "no weight matrix"),
        ("(float[2,8] x) => (float[2,8] y) { y = Relu(x) }", "no weight matrix"),
        ("(float[2,8] x) => (float[2,4] y) <float[8,4] w = ZEROS> { y = MatMul(x, w) }", "these zeros already"),
    ],
)
def test_what_cannot_be_masked_is_named(text: str, reason: str) -> None:
    model = graph(text.replace("ZEROS", "{" + ",".join((["1.0"] * 8 + ["0.0"] * 8) * 2) + "}"))()
    for node in model.graph:
        node.name = node.outputs[0].name
    before = digest(model)
    outcome = MaskWeights().run(model, context(Masked("2:4", "magnitude")))
    assert not outcome.changed
    assert reason in outcome.skipped[0].reason
    assert digest(model) == before


def test_a_site_that_is_not_there_is_named() -> None:
    outcome = MaskWeights().run(built("gemm"), PassContext(CONTEXT.target, Plan({Site("q", "Gemm", "mask"): Masked()})))
    assert [skip.reason for skip in outcome.skipped] == ["the main graph has no node of this name"]


def test_statistics_of_another_layer_are_refused(statistics) -> None:
    model = built("gemm")
    stats = {site: replace(layer, gram=layer.gram[:5, :5]) for site, layer in statistics(model, drawn(model)).items()}
    outcome = MaskWeights().run(model, context(Masked("2:4", "obs"), stats))
    assert "another layer" in outcome.skipped[0].reason


@pytest.mark.parametrize(("choice", "name"), [(Masked("2:4", "obs"), "Gram"), (Masked("2x4"), "pattern")])
def test_plans_that_cannot_be_carried_out_are_errors(choice: Masked, name: str) -> None:
    with pytest.raises(BadPlan, match=name):
        MaskWeights().run(built("gemm"), context(choice))


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_a_trained_model_keeps_its_accuracy_at_two_of_four(statistics, kind: digits.Kind) -> None:
    model = ir.load(Path(digits.path(kind)))
    clean(CONTEXT.target).run(model, CONTEXT)
    images = digits.arrays("calibration")[0][:48]
    stats = statistics(model, [{"x": image[None]} for image in images])
    chosen = {
        replace(site, kind="mask"): Masked("2:4", "least-squares")
        for site, layer in stats.items()
        if layer.gram is not None and layer.gram.shape[-1] >= 16
    }
    assert len(chosen) >= 8
    outcome = MaskWeights().run(model, PassContext(CONTEXT.target, Plan(chosen), stats))
    assert outcome == Outcome(tuple(chosen))
    assert_valid(model)
    images, labels = digits.arrays("test")
    scores = run_onnxruntime(ir.to_proto(model), {"x": images[:300]})[0]
    assert (scores.argmax(axis=1) == labels[:300]).mean() > 0.93
