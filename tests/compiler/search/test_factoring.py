"""Ranks are offered where the layer bears them and the clock says they pay, and then run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Float, LowRank, Plan, Site, StaticInt8
from lwc.compiler.core.target import NAMED
from lwc.compiler.search import factoring
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.factoring import rank_options, ranks_of
from lwc.compiler.search.numbers import Numbers
from lwc.models.tiny.text import graph

WIDE = graph("""(float[1,128] x) => (float[1,256] a, float[1,128] y) <float[256,128] w1, float[256] b1,
    float[128,128] w2, float[128] b2> { a = Gemm <transB = 1> (x, w1, b1) y = Gemm <transB = 1> (x, w2, b2) }""")
A, Y = Site("a", "Gemm", "rank"), Site("y", "Gemm", "rank")
RANK = 8


@pytest.fixture(scope="module")
def case(case_of: Callable[..., Any]) -> Iterator[Any]:
    """A layer whose weight is of a low rank, but for a little, and one whose weight is not."""
    found, rng = WIDE(), np.random.default_rng(3)
    for node in found.graph:
        node.name = node.outputs[0].name
    low = rng.standard_normal((256, RANK)) @ rng.standard_normal((RANK, 128)) / 30
    weight = (low + 1e-3 * rng.standard_normal(low.shape)).astype(np.float32)
    found.graph.initializers["w1"].const_value = ir.tensor(weight, name="w1")
    samples = [{"x": rng.standard_normal((1, 128)).astype(np.float32)} for _ in range(400)]
    return case_of(Model(found, "model"), samples)


def saving(ms: float) -> Callable[..., Any]:
    """A clock on which each lower rank saves so much more."""

    def measured(
        bench: Workbench, base: Plan, rungs: Sequence[Mapping[Site, Choice]], *rest: Any
    ) -> dict[tuple[Site, Choice], float]:
        return {(site, choice): ms * (k + 1) for k, rung in enumerate(rungs) for site, choice in rung.items()}

    return measured


def test_ranks_have_fewer_weights_and_suit_the_kernels(case: Any) -> None:
    for site, size in ((A, (256, 128)), (Y, (128, 128))):
        ranks = [choice.rank for choice in ranks_of(case.bench)[site]]
        assert ranks == sorted(ranks, reverse=True)
        assert all(rank % case.bench.target.channel_alignment == 0 for rank in ranks)
        assert all(rank * sum(size) < size[0] * size[1] for rank in ranks)


def test_a_layer_of_low_rank_is_offered_and_one_of_full_rank_is_not(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factoring, "measured_savings", saving(1.0))
    found = rank_options(case.bench, Numbers(case.bench, case.bench.samples), Plan(), "latency")
    assert set(found) == {A}
    first, *others = found[A]
    assert first.choice == Float()
    assert others
    assert all(isinstance(option.choice, LowRank) and option.bytes < 0 and option.loss < 1e-2 for option in others)
    assert [option.ms for option in others] == sorted((option.ms for option in others), reverse=True)


def test_what_takes_longer_is_not_offered(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factoring, "measured_savings", saving(-1.0))
    assert not rank_options(case.bench, Numbers(case.bench, case.bench.samples), Plan(), "latency")


def test_for_size_nothing_is_timed(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(factoring, "measured_savings")
    found = rank_options(case.bench, Numbers(case.bench, case.bench.samples), Plan(), "size")
    assert [option.ms for option in found[A]] == [0.0] * len(found[A])


def test_savings_are_measured_in_the_formats_of_the_plan(case: Any) -> None:
    numbers = Numbers(case.bench, case.bench.samples)
    base = Plan({site: StaticInt8() for site in case.options}, case.job.ranges)
    assert set(rank_options(case.bench, numbers, base, "latency")) <= {A}


def bench_of(model: ir.Model) -> Any:
    for node in model.graph:
        node.name = node.outputs[0].name
    infer_shapes(model)
    return SimpleNamespace(model=Model(model, "model"), target=NAMED["cpu:x86-64-v4"])


def test_layers_that_cannot_be_two_are_left_out() -> None:
    turned = graph("""(float[128,1] x) => (float[1,256] y) <float[256,128] w, float[256] b>
        { y = Gemm <transA = 1, transB = 1> (x, w, b) }""")
    assert not ranks_of(bench_of(turned()))
    broken = WIDE()
    broken.graph.initializers["w1"].const_value = ir.tensor(np.full((256, 128), np.nan, np.float32), name="w1")
    assert set(ranks_of(bench_of(WIDE()))) == {A, Y}
    assert set(ranks_of(bench_of(broken))) == {Y}
