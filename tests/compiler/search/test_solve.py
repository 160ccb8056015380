import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.plan import DynamicInt8, Float, Float16, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.search.greedy import greedy
from lwc.compiler.search.ledger import Ledger, Limits, Objective
from lwc.compiler.search.pairs import bounded
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Crossing, Interaction, Option, Space

CHOICES = (Float(), StaticInt8(), DynamicInt8(), Float16(), Weight4())
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
        {"float16": draw(st.floats(0.0, 3.0))},
    )


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    sites = SITES[: draw(st.integers(1, 5))]
    options = {
        site: tuple(
            Option(choice, draw(MS), draw(st.integers(1, 1000)), 0.0 if k == 0 else draw(LOSS))
            for k, choice in enumerate(CHOICES[: draw(st.integers(1, 5))])
        )
        for site in sites
    }
    crossings = tuple(draw(crossing(sites, k)) for k in range(draw(st.integers(0, 4))))
    return Space(options, crossings, draw(interactions(options)))


@st.composite
def interactions(draw: st.DrawFn, options: dict[Site, tuple[Option, ...]]) -> tuple[Interaction, ...]:
    """Between up to six pairs of options, of either sign, such that no plan loses less than nothing."""
    singles = {(site, option.choice): option.loss for site, found in options.items() for option in found[1:]}
    pairs = [pair for pair in itertools.combinations(singles, 2) if pair[0][0] != pair[1][0]]
    drawn = draw(st.lists(st.sampled_from(pairs), max_size=6, unique=True)) if pairs else []
    terms = [draw(st.integers(-10, 10)) / 10 * (singles[a] + singles[b]) for a, b in drawn]
    return bounded([Interaction(a, b, term) for (a, b), term in zip(drawn, terms, strict=True) if term], singles)


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


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3])
def test_budgets_far_from_one_bind_as_well(scale: float) -> None:
    options = {
        site: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, scale), Option(Weight4(), 0.4, 1, 1e5))
        for site in SITES
    }
    choices = solve(Space(options), 2.5 * scale)
    assert sorted(choice.name for choice in choices.values()) == ["float"] * 3 + ["w8"] * 2


def test_no_loss_at_all_leaves_the_sites_that_lose_nothing() -> None:
    a, b = SITES[:2]
    options = {
        a: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, 0.0)),
        b: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, 1e-12)),
    }
    assert solve(Space(options), 0.0) == {a: Weight8(), b: Float()}


def test_among_equally_small_plans_takes_the_faster_and_then_the_one_that_loses_less() -> None:
    many = tuple(Site(f"s{i}", "MatMul") for i in range(40))
    options = {
        site: (
            Option(Float(), 1.0, 4_000_000, 0.0),
            Option(Weight8(), 2.0, 1_000_000, 1e-6),
            Option(DynamicInt8(), 0.9, 1_000_000, 2e-6),
            Option(StaticInt8(), 0.9, 1_000_000, 1e-6),
        )
        for site in many
    }
    assert set(solve(Space(options), 1.0, "size").values()) == {StaticInt8()}


def test_weight_only_choices_cross_into_no_other_format() -> None:
    a, b = SITES[:2]
    options = {site: (Option(Float(), 1.0, 4, 0.0), Option(Weight4(), 0.9, 1, 0.0)) for site in (a, b)}
    space = Space(options, (Crossing("ab", a, (b,), True, 5.0, 5.0, {"float16": 5.0}),))
    assert set(solve(space, 1.0).values()) == {Weight4()}


PAIR = {site: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5, 1, 0.1)) for site in SITES[:2]}
BOTH = ((SITES[0], StaticInt8()), (SITES[1], StaticInt8()))


@pytest.mark.parametrize(("term", "budget", "changed"), [(-0.15, 0.06, 2), (-0.15, 0.04, 0), (0.1, 0.25, 1)])
def test_pairs_are_chosen_by_what_they_lose_together(term: float, budget: float, changed: int) -> None:
    choices = solve(Space(PAIR, (), (Interaction(*BOTH, term),)), budget)
    assert sum(choice == StaticInt8() for choice in choices.values()) == changed


@pytest.mark.parametrize("term", [-0.2, 0.1])
def test_no_loss_at_all_takes_no_pair_that_loses_anything_alone_or_together(term: float) -> None:
    lossless = {site: (options[0], replace(options[1], loss=0.0)) for site, options in PAIR.items()}
    for options in (PAIR, lossless) if term > 0 else (PAIR,):
        space = Space(options, (), (Interaction(*BOTH, term),))
        assert space.predicted_loss(solve(space, 0.0)) == 0.0


def limited_space() -> Space:
    """Small is slow: four bytes take 1 ms, one byte 3 ms; two bytes 2 ms."""
    options = (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 2.0, 2, 0.1), Option(Weight4(), 3.0, 1, 0.2))
    return Space(dict.fromkeys(SITES, options))


def test_a_limit_on_size_is_held_at_the_least_time() -> None:
    space = limited_space()
    choices = solve(space, 10.0, "latency", Limits(bytes=13))
    assert space.predicted_bytes(choices) <= 13
    assert space.predicted_ms(choices) == pytest.approx(9.0)  # 5 x 4 bytes less 7, at 1 ms for each 2 bytes


def test_a_limit_on_time_is_held_at_the_least_size() -> None:
    space = limited_space()
    choices = solve(space, 10.0, "size", Limits(ms=7.0))
    assert space.predicted_ms(choices) <= 7.0
    assert space.predicted_bytes(choices) == 16


def test_limits_that_cannot_be_held_are_passed_by_as_little_as_possible() -> None:
    space = limited_space()
    assert set(solve(space, 10.0, "latency", Limits(bytes=1)).values()) == {Weight4()}
    within_loss = solve(space, 0.45, "latency", Limits(bytes=1))
    assert space.predicted_loss(within_loss) <= 0.45
    assert space.predicted_bytes(within_loss) == 12  # four sites at w8 save more than two at w4 for the same loss


def large_space(sites: int, seed: int = 0) -> Space:
    """A chain with a skip every fifth site; five options each."""
    rng = np.random.default_rng(seed)
    named = [Site(f"s{i}", "Conv") for i in range(sites)]
    options = {}
    for site in named:
        ms, size, loss = rng.lognormal(0, 1), int(rng.lognormal(9, 1.5)), rng.lognormal(-9, 2)
        options[site] = (
            Option(Float(), ms, 4 * size, 0.0),
            Option(StaticInt8(), ms * rng.uniform(0.3, 1.2), size, loss),
            Option(DynamicInt8(), ms * rng.uniform(0.4, 1.5), size, loss * 0.8),
            Option(Weight8(), ms * rng.uniform(0.8, 1.3), size, loss * 0.1),
            Option(Weight4(), ms * rng.uniform(0.7, 1.4), size // 2, loss * 5),
        )
    crossings = tuple(
        Crossing(
            f"v{i}",
            named[i],
            tuple(named[j] for j in (i + 1, i + 3 if i % 5 == 0 else i + 1) if j < sites)[: 1 + (i % 5 == 0)],
            i % 7 == 0,
            rng.uniform(0.02, 0.2),
            rng.uniform(0.02, 0.2),
        )
        for i in range(sites)
    )
    return Space(options, crossings)


@pytest.mark.parametrize("objective", ["latency", "size"])
def test_five_hundred_sites_are_solved_within_the_budget_and_better_than_greedily(objective: Objective) -> None:
    space = large_space(500)
    budget = 0.2 * sum(options[1].loss for options in space.options.values())
    exact, steps = Ledger(space, solve(space, budget, objective)), Ledger(space, greedy(space, budget, objective))
    assert exact.totals.loss <= budget * (1 + 1e-6)
    assert steps.totals.loss <= budget
    assert exact.totals.cost(objective) <= steps.totals.cost(objective) * (1 + 1e-4)


def test_greedy_steps_stand_in_where_the_program_runs_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    space = large_space(60)
    budget = 0.1 * sum(options[1].loss for options in space.options.values())
    monkeypatch.setattr("lwc.compiler.search.solve.SECONDS", 0.0)
    choices = solve(space, budget)
    assert space.predicted_loss(choices) <= budget
    assert space.predicted_ms(choices) < 0.95 * space.predicted_ms(space.complete({}))


def test_throughput_is_what_latency_is() -> None:
    space = large_space(30)
    assert solve(space, 0.01, "throughput") == solve(space, 0.01, "latency")
