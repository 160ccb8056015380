import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.plan import DynamicInt8, Float, Site, StaticInt8
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Crossing, Option, Space

CHOICES = (Float(), StaticInt8(), DynamicInt8())
SITES = tuple(Site(f"n{i}", "Conv") for i in range(5))
MS = st.floats(0.01, 10.0)
LOSS = st.integers(1, 1000).map(lambda n: n / 1000)  # coarser than the solver's feasibility tolerance


@st.composite
def crossing(draw: st.DrawFn, sites: tuple[Site, ...], k: int) -> Crossing:
    producer = draw(st.integers(-1, len(sites) - 2))
    readers = st.sampled_from(sites[producer + 1 :])
    return Crossing(
        f"v{k}",
        sites[producer] if producer >= 0 else None,
        tuple(draw(st.lists(readers, unique=True, max_size=3))),
        draw(st.booleans()),
        draw(st.floats(0.0, 3.0)),
        draw(st.floats(0.0, 3.0)),
    )


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    sites = SITES[: draw(st.integers(1, 5))]
    options = {
        site: tuple(
            Option(choice, draw(MS), draw(st.integers(1, 1000)), 0.0 if k == 0 else draw(LOSS))
            for k, choice in enumerate(CHOICES[: draw(st.integers(1, 3))])
        )
        for site in sites
    }
    crossings = tuple(draw(crossing(sites, k)) for k in range(draw(st.integers(0, 4))))
    return Space(options, crossings)


def brute_force(space: Space, budget: float) -> float:
    sites = list(space.options)
    best = float("inf")
    for picks in itertools.product(*(space.options[site] for site in sites)):
        choices = {site: option.choice for site, option in zip(sites, picks, strict=True)}
        if space.predicted_loss(choices) <= budget:
            best = min(best, space.predicted_ms(choices))
    return best


@settings(max_examples=80, deadline=None)
@given(space=spaces(), budget=st.integers(0, 3000).map(lambda n: n / 1000 + 0.0005))
def test_finds_the_cheapest_plan_within_the_loss_budget(space: Space, budget: float) -> None:
    choices = solve(space, budget)
    assert space.predicted_loss(choices) <= budget + 1e-6
    assert space.predicted_ms(choices) == pytest.approx(brute_force(space, budget), rel=1e-3, abs=1e-3)


def test_takes_no_isolated_integer_site_whose_crossings_cost_more_than_it_saves() -> None:
    a, b, c = SITES[:3]
    options = {
        site: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.6 if site == b else 1.5, 1, 0.0))
        for site in (a, b, c)
    }
    chain = (
        Crossing("ab", a, (b,), False, 0.3, 0.3),
        Crossing("bc", b, (c,), False, 0.3, 0.3),
    )
    assert isinstance(solve(Space(options), 1.0)[b], StaticInt8)
    assert isinstance(solve(Space(options, chain), 1.0)[b], Float)


def test_prefers_the_plan_that_loses_less_among_equally_fast_ones() -> None:
    site = SITES[0]
    options = {site: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 1.0, 1, 0.5))}
    assert isinstance(solve(Space(options), 1.0)[site], Float)


def test_minimises_bytes_when_asked_for_size() -> None:
    site = SITES[0]
    options = {site: (Option(Float(), 1.0, 4_000_000, 0.0), Option(DynamicInt8(), 5.0, 1_000_000, 0.1))}
    assert isinstance(solve(Space(options), 1.0, "size")[site], DynamicInt8)
    assert isinstance(solve(Space(options), 0.05, "size")[site], Float)


def test_an_empty_space_has_an_empty_answer() -> None:
    assert solve(Space({}), 1.0) == {}
