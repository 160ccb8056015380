import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Float, Site, StaticInt8
from lwc.compiler.search.cost import exchanged
from lwc.compiler.search.job import Change
from lwc.compiler.search.pairs import bounded, interactions, most_pairs, neighbours
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.space import Interaction
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
    found = interactions(measure, SINGLES, [(A, B), (B, C)], CHOSEN, most=9)
    assert found == (Interaction((A, INT8), (B, INT8), -0.5),)


def test_pairs_with_most_to_lose_are_measured_first() -> None:
    asked: list[Change] = []

    def listening(changes: Sequence[Change]) -> Mapping[Change, float]:
        asked.extend(changes)
        return measure(changes)

    interactions(listening, SINGLES, [(A, B), (B, C), (C, D)], CHOSEN, most=1)
    assert asked == [((B, INT8), (C, INT8))]


def test_terms_of_a_network_are_joint_losses_minus_both(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(Path(structures.__file__).parent / "digits_cnn.onnx"), count=4)
    pairs = neighbours(exchanged(case.job.model, list(case.options), case.job.target))
    assert pairs
    chosen = {site: choices[1] for site, choices in case.options.items()}
    with PartialRuns(case.job) as runs:
        singles = {change[0]: loss for change, loss in runs.losses(case.changes)}
        found = interactions(lambda changes: dict(runs.losses(changes)), singles, pairs, chosen, most=3)
        assert found
        for pair in found:
            joint = runs.whole_model_loss((pair.first, pair.second))
            assert pair.loss == pytest.approx(joint - singles[pair.first] - singles[pair.second], rel=0.05, abs=1e-9)


LOSSES = st.integers(1, 1000).map(lambda n: n / 1000)


@given(losses=st.lists(LOSSES, min_size=4, max_size=4), terms=st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
def test_no_set_of_sites_gets_back_more_than_it_loses(losses: list[float], terms: list[float]) -> None:
    singles: dict[tuple[Site, Choice], float] = {(s, INT8): x for s, x in zip((A, B, C, D), losses, strict=True)}
    pairs = itertools.combinations(singles, 2)
    measured = [
        Interaction(a, b, term * (singles[a] + singles[b])) for (a, b), term in zip(pairs, terms, strict=True)
    ]
    found = bounded(measured, singles)
    for count in range(1, 5):
        for chosen in itertools.combinations(singles, count):
            inside = [pair.loss for pair in found if {pair.first, pair.second} <= set(chosen)]
            assert sum(singles[each] for each in chosen) + sum(inside) >= -1e-12


def test_a_pair_alone_may_get_back_all_that_it_loses() -> None:
    whole = Interaction((A, INT8), (B, INT8), -3.0)
    assert bounded([whole], SINGLES) == (whole,)


def test_pairs_are_few_beside_sites() -> None:
    assert [most_pairs(sites) for sites in (0, 3, 4, 50, 400)] == [0, 0, 1, 12, 24]
