from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Float, Site, StaticInt8
from lwc.compiler.search.job import Change
from lwc.compiler.search.pairs import neighbours, pair_losses
from lwc.compiler.search.partial import PartialRuns
from lwc.models import structures

A, B, C, D = (Site(name, "Conv") for name in "abcd")
INT8 = StaticInt8()
SINGLES: dict[tuple[Site, Choice], float] = {(A, INT8): 1.0, (B, INT8): 2.0, (C, INT8): 4.0, (D, INT8): 8.0}
CHOSEN: dict[Site, Choice] = {A: INT8, B: INT8, C: INT8, D: Float()}


def measure(changes: Sequence[Change]) -> Mapping[Change, float]:
    """Each adds its own, but b takes away half of what a did."""
    found = {}
    for change in changes:
        sites = {site for site, _ in change}
        found[change] = sum(SINGLES[pair] for pair in change) - 0.5 * ({A, B} <= sites)
    return found


def test_only_terms_that_the_sum_does_not_predict_are_given() -> None:
    assert pair_losses(measure, SINGLES, [(A, B), (B, C)], CHOSEN, most=9) == {(A, B): -0.5}


def test_pairs_with_most_to_lose_are_measured_first() -> None:
    asked: list[Change] = []

    def listening(changes: Sequence[Change]) -> Mapping[Change, float]:
        asked.extend(changes)
        return measure(changes)

    pair_losses(listening, SINGLES, [(A, B), (B, C), (C, D)], CHOSEN, most=1)
    assert asked == [((B, INT8), (C, INT8))]


def test_terms_of_a_network_are_joint_losses_minus_both(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(Path(structures.__file__).parent / "digits_cnn.onnx"), count=4)
    pairs = neighbours(case.job.model, list(case.options), case.job.target)
    assert pairs
    chosen = {site: choices[1] for site, choices in case.options.items()}
    with PartialRuns(case.job) as runs:
        singles = {change[0]: loss for change, loss in runs.losses(case.changes)}
        terms = pair_losses(lambda changes: dict(runs.losses(changes)), singles, pairs, chosen, most=3)
        for (a, b), term in terms.items():
            joint = runs.whole_model_loss(((a, chosen[a]), (b, chosen[b])))
            assert term == pytest.approx(joint - singles[a, chosen[a]] - singles[b, chosen[b]], rel=0.05, abs=1e-9)
