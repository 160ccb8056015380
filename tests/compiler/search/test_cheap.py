from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwc.compiler.analysis.activations import collect
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Float, Float16, Range, StaticInt8, Weight4, Weight8
from lwc.compiler.search.cheap import METHODS, Evidence, _rounded, correlation, first_order, gram
from lwc.compiler.search.partial import PartialRuns
from lwc.models import structures

CNN = Path(structures.__file__).parent / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def evidence(case_of: Callable[..., Any]) -> Evidence:
    case = case_of(Model.open(CNN), count=4)
    bench = case.bench

    def opened(model: Model, outputs: Any) -> Any:
        return bench.backend.session(model, bench.target, outputs)

    stats = collect(bench.model, list(case.options), bench.samples, opened, gram=True)
    nodes = {node.name: node for node in bench.model.graph}
    values = {}
    for site, found in stats.items():
        pairs = [*zip(nodes[site.name].inputs, found.inputs, strict=True)]
        pairs += [*zip(nodes[site.name].outputs, found.outputs, strict=True)]
        values.update({value.name: one for value, one in pairs if value is not None and one is not None})
    return Evidence(case.job, case.options, stats, values)


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_every_pair_has_a_loss_that_is_zero_for_float_alone(name: str, method: Any, evidence: Evidence) -> None:
    losses = method(evidence)
    assert set(losses) == set(evidence.pairs())
    for (_, choice), loss in losses.items():
        assert (loss == 0.0) == isinstance(choice, Float)


@pytest.mark.parametrize("method", [gram, correlation, first_order])
def test_a_range_far_too_wide_loses_more(method: Any, evidence: Evidence) -> None:
    wide = {name: Range(100 * r.low, 100 * r.high) for name, r in evidence.job.ranges.items()}
    before, after = method(evidence), method(replace(evidence, job=replace(evidence.job, ranges=wide)))
    integer = [pair for pair in before if isinstance(pair[1], StaticInt8)]
    assert all(after[pair] > before[pair] for pair in integer)


def test_first_order_is_of_the_size_of_the_measured_loss(evidence: Evidence) -> None:
    guessed = first_order(evidence)
    with PartialRuns(evidence.job) as runs:
        for site, choices in evidence.options.items():
            want = runs.loss(((site, choices[1]),))
            assert want / 3 < guessed[site, choices[1]] < 3 * want


def test_coarser_formats_have_larger_weight_errors() -> None:
    weight = np.random.default_rng(0).standard_normal((1, 8, 50))
    errors = [
        float(np.square(_rounded(weight, choice) - weight).sum())
        for choice in (Float16(), Weight8(group=32), StaticInt8(), Weight4(group=16), Weight4(group=0))
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0
