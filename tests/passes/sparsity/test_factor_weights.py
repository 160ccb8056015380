"""One layer becomes two: shapes, attributes, what is lost, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import LowRank, Plan, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.testing import (
    CONTEXT,
    assert_equivalent,
    assert_keeps_promises,
    assert_valid,
    parse,
    run_onnxruntime,
)
from lwc.models import digits
from lwc.models.tiny.text import graph
from lwc.passes import clean
from lwc.passes.solvers.low_rank import largest_rank
from lwc.passes.sparsity.factor_weights import FactorWeights

LAYERS = {
    "strided": """(float[N,8,9,9] x) => (float[N,16,4,4] y) <float[16,8,3,3] w, float[16] b>
        { y = Conv <kernel_shape = [3,3], strides = [2,2]> (x, w, b) }""",
    "padded": """(float[N,8,6,6] x) => (float[N,16,6,6] y) <float[16,8,3,3] w>
        { y = Conv <auto_pad = "SAME_UPPER"> (x, w) }""",
    "pointwise": "(float[N,8,6,6] x) => (float[N,16,6,6] y) <float[16,8,1,1] w, float[16] b> { y = Conv(x, w, b) }",
    "line": "(float[N,8,20] x) => (float[N,16,16] y) <float[16,8,3] w> { y = Conv <dilations = [2]> (x, w) }",
    "gemm": "(float[N,8] x) => (float[N,16] y) <float[8,16] w, float[16] b> { y = Gemm(x, w, b) }",
    "turned": """(float[N,8] x) => (float[N,16] y) <float[16,8] w, float[1,16] b>
        { y = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (x, w, b) }""",
    "product": "(float[N,3,8] x) => (float[N,3,16] y) <float[8,16] w> { y = MatMul(x, w) }",
    "left": "(float[2,8,5] x) => (float[2,16,5] y) <float[16,8] w> { y = MatMul(w, x) }",
}
SITE = Site("y", "?", "rank")
layers = pytest.mark.parametrize("name", LAYERS)


def built(name: str, rank: int | None = None) -> ir.Model:
    """rank: that of the weight, drawn"""
    model = graph(LAYERS[name])()
    node = model.graph[0]
    node.name = "y"
    if rank is not None:
        value = model.graph.initializers["w"]
        rng, shape = np.random.default_rng(4), value.const_value.numpy().shape
        first = shape[0]
        exact = rng.normal(size=(first, rank)) @ rng.normal(size=(rank, int(np.prod(shape[1:]))))
        value.const_value = ir.tensor(exact.reshape(shape).astype(np.float32) / 4, name="w")
    infer_shapes(model)
    return model


def context(rank: int, stats: dict[Site, LayerStats] | None = None) -> PassContext:
    return PassContext(CONTEXT.target, Plan({SITE: LowRank(rank)}), stats or {})


@layers
def test_a_weight_of_that_rank_is_factored_exactly(name: str) -> None:
    model = built(name, rank=4)
    before = model.clone()
    outcome = assert_keeps_promises(model, FactorWeights(), context(4))
    assert outcome == Outcome((SITE,))
    assert_valid(model)
    assert_equivalent(before, model)
    assert sum(v.const_value.size for v in model.graph.initializers.values()) < sum(
        v.const_value.size for v in before.graph.initializers.values()
    )


@layers
def test_the_reader_of_the_input_keeps_its_name_and_the_other_is_of_its_site(name: str) -> None:
    model = built(name)
    FactorWeights().run(model, context(2))
    first, second = model.graph
    assert (first.name, second.name, second.metadata_props[SITE_KEY]) == ("y", "y.up", "y")
    assert model.graph.inputs[0] in first.inputs
    inferred = model.clone()
    inferred.graph[0].outputs[0].shape = None
    infer_shapes(inferred)
    assert inferred.graph[0].outputs[0].shape == first.outputs[0].shape


@pytest.mark.parametrize("name", ["padded", "gemm", "product"])
def test_factors_weighted_with_statistics_lose_less(statistics, name: str) -> None:
    model = built(name)
    rng = np.random.default_rng(5)
    shape = [dim if isinstance(dim, int) else 2 for dim in model.graph.inputs[0].shape]
    axis = 1 if name != "product" else 2
    spread = np.geomspace(1, 30, 8).reshape([8 if k == axis else 1 for k in range(len(shape))])
    samples = [{"x": (rng.normal(size=shape) * spread + spread).astype(np.float32)} for _ in range(8)]
    losses = []
    for stats in ({}, statistics(model, samples)):
        fork = model.clone()
        FactorWeights().run(fork, context(3, stats))
        pairs = [[run_onnxruntime(ir.to_proto(m), feeds)[0] for m in (model, fork)] for feeds in samples]
        losses.append(sum(np.square(a - b).sum() for a, b in pairs))
    assert losses[1] < 0.5 * losses[0]


@layers
@pytest.mark.parametrize("rank", [0, 6, 100])
def test_ranks_that_do_not_pay_are_refused(name: str, rank: int) -> None:
    model = built(name)
    rows = 16
    columns = model.graph.initializers["w"].const_value.size // rows
    most = min(largest_rank(rows, columns), columns)
    before = digest(model)
    outcome = FactorWeights().run(model, context(rank if rank != 6 else most + 1))
    assert outcome.skipped[0].reason.endswith(f"at most {most}")
    assert digest(model) == before
    assert FactorWeights().run(model, context(most)).changed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,4,1,1] w> { y = Conv <group = 2> (x, w) }", "groups"),
        ("(float[8,2] x) => (float[2,8] y) <float[8,8] w> { y = Gemm <transA = 1> (x, w) }", "transposed"),
        ("(float[2,8] x) => (float[2,8] z) <float[8,8] w> { y = MatMul(x, w) z = MatMul(y, w) }", "shared with 'z'"),
        ("(float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,1,1] w> { y = ConvTranspose(x, w) }", "no weight matrix"),
    ],
)
def test_what_cannot_be_factored_is_named(text: str, reason: str) -> None:
    model = graph(text)()
    for node in model.graph:
        node.name = node.outputs[0].name
    before = digest(model)
    outcome = FactorWeights().run(model, context(2))
    assert not outcome.changed
    assert reason in outcome.skipped[0].reason
    assert digest(model) == before


def test_names_that_are_taken_are_left_alone() -> None:
    model = parse("""agraph (float[2,8] x) => (float[2,8] z) <float[8,8] w = {W}> {
        y = MatMul(x, w) z = Relu(y) }""".replace("W", ",".join(str(k % 5) for k in range(64))))
    model.graph[0].name, model.graph[1].name = "y", "y.up"
    FactorWeights().run(model, context(2))
    assert [node.name for node in model.graph] == ["y", "y.up.1", "y.up"]


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_a_trained_model_at_half_its_ranks_still_reads_digits(statistics, kind: digits.Kind) -> None:
    model = ir.load(Path(digits.path(kind)))
    clean(CONTEXT.target).run(model, CONTEXT)
    images = digits.arrays("calibration")[0][:48]
    stats = statistics(model, [{"x": image[None]} for image in images])
    nodes = {node.name: node for node in model.graph}
    chosen = {}
    for site, layer in stats.items():
        if layer.gram is not None and layer.gram.ndim == 2 and layer.gram.shape[0] >= 32:
            rows = nodes[site.name].inputs[1].const_value.size // len(layer.gram)
            if rows >= 16:
                chosen[replace(site, kind="rank")] = LowRank(max(1, int(0.7 * largest_rank(rows, len(layer.gram)))))
    assert len(chosen) >= 5
    outcome = FactorWeights().run(model, PassContext(CONTEXT.target, Plan(chosen), stats))
    assert outcome == Outcome(tuple(chosen))
    assert_valid(model)
    images, labels = digits.arrays("test")
    scores = run_onnxruntime(ir.to_proto(model), {"x": images[:300]})[0]
    assert (scores.argmax(axis=1) == labels[:300]).mean() > 0.9
