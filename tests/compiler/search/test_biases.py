"""Corrected biases are kept where the whole model loses less with them, and only there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lwc.compiler.benches import workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Site, StaticInt8
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.replay import replayed
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.biases import choose_biases, mean_sources
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.rounding import gram_sources
from lwc.models import digits
from lwc.passes.precision import required_values

CORRECTED = StaticInt8(bias="corrected")


@pytest.fixture(scope="module")
def numbers() -> Numbers:
    """Of a trained convolutional network, with ranges for all of it in int8."""
    options = CompileOptions(calib=digits.samples("test")[:64], no_cache=True, backend="ort")
    prepared = prepare(Model.open(digits.path("cnn")), options, Timings(Silent()))
    numbers = Numbers(workbench(prepared), prepared.search)
    decider = Decider(numbers.bench, numbers, Wanted("int8"))
    decider.find_sites()
    numbers.choose_ranges(required_values(numbers.bench.model.ir, decider.static_choices()), decider.static_choices())
    return numbers


def static_of(numbers: Numbers) -> dict[Site, Choice]:
    decider = Decider(numbers.bench, numbers, Wanted("int8"))
    decider.find_sites()
    return decider.static_choices()


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Plans lose the first number with kept biases and the second with corrected ones."""

    def set_to(kept: float, corrected: float) -> None:
        def measured(self: Workbench, plan: Plan, count: int) -> float:
            return corrected if CORRECTED in plan.choices.values() else kept

        monkeypatch.setattr(Workbench, "noise", measured)

    return set_to


@pytest.mark.parametrize(
    ("kept", "corrected", "choice"),
    [
        (0.1, 0.06, CORRECTED),
        (0.1, 0.08, StaticInt8()),
        (0.1, 0.2, StaticInt8()),
        (1e-6, 0.0, StaticInt8()),
        (0.1, math.inf, StaticInt8()),
    ],
)
def test_all_layers_take_corrected_biases_when_the_model_clearly_gains(
    numbers: Numbers, noise: Callable[[float, float], None], kept: float, corrected: float, choice: StaticInt8
) -> None:
    noise(kept, corrected)
    assert set(choose_biases(numbers, static_of(numbers)).values()) == {choice}


def test_a_layer_whose_mean_is_not_known_keeps_its_bias(
    numbers: Numbers, noise: Callable[[float, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(0.1, 0.01)
    static = static_of(numbers)
    site = next(iter(mean_sources(numbers.bench.model, static)))
    collect = Numbers.collect_means

    def without(self: Numbers, activations: Mapping[Site, str]) -> Mapping[Site, LayerStats]:
        return {s: layer for s, layer in collect(self, activations).items() if s != site}

    monkeypatch.setattr(Numbers, "collect_means", without)
    found = choose_biases(numbers, static)
    assert [s for s, choice in found.items() if choice != CORRECTED] == [site]


def test_means_and_gram_matrices_stand_beside_each_other(numbers: Numbers) -> None:
    nodes = {node.name or "": node for node in numbers.bench.model.graph}
    sources = mean_sources(numbers.bench.model, static_of(numbers))
    numbers.collect_means(sources)
    numbers.collect_grams(gram_sources(sources, nodes))
    stats = numbers.collect_means(sources)
    for site in sources:
        first = stats[site].inputs[0]
        assert first is not None
        assert first.channel_mean is not None
        assert stats[site].gram is not None


def test_a_plan_with_corrected_biases_is_replayed(numbers: Numbers, tmp_path: Path) -> None:
    bench = numbers.bench
    static = static_of(numbers)
    numbers.collect_means(mean_sources(bench.model, static))
    plan = Plan(dict.fromkeys(static, CORRECTED), numbers.ranges)
    wanted = bench.apply(bench.model, plan).digest()
    assert wanted != bench.apply(bench.model, Plan(static, numbers.ranges)).digest()
    (tmp_path / "plan.json").write_text(plan.to_json())
    fresh = replace(bench, apply=Applier(bench.target))
    read = replayed(CompileOptions(plan=tmp_path / "plan.json"), Numbers(fresh, numbers.calibration))
    assert fresh.apply(bench.model, read).digest() == wanted
