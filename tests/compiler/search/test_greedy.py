import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.plan import Choice, DynamicInt8, Float, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.search.greedy import boldest, greedy, path, uniform_plans
from lwc.compiler.search.ledger import Limits
from lwc.compiler.search.pairs import bounded
from lwc.compiler.search.space import Crossing, Interaction, Option, Space

SITES = tuple(Site(f"n{i}", "MatMul") for i in range(5))
MS = st.floats(0.01, 10.0)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    choices = (Float(), StaticInt8(), Weight4())
    options = {
        site: tuple(
            Option(choice, draw(MS), draw(st.integers(1, 1000)), draw(st.integers(1, 100)) / 100 if k else 0.0)
            for k, choice in enumerate(choices[: draw(st.integers(1, 3))])
        )
        for site in SITES[: draw(st.integers(1, 5))]
    }
    chain = list(itertools.pairwise(options))
    crossings = tuple(Crossing(a.name, a, (b,), draw(st.booleans()), draw(MS), draw(MS)) for a, b in chain)
    ends = [((a, options[a][-1]), (b, options[b][-1])) for a, b in chain if len(options[a]) > 1 < len(options[b])]
    singles = {(site, option.choice): option.loss for pair in ends for site, option in pair}
    terms = [
        Interaction((a, one.choice), (b, two.choice), draw(st.floats(-1.0, 1.0)) * (one.loss + two.loss))
        for (a, one), (b, two) in ends
    ]
    return Space(options, crossings, bounded(terms, singles))


@settings(max_examples=80, deadline=None)
@given(space=spaces(), budget=st.floats(0.0, 3.0), objective=st.sampled_from(["latency", "size"]))
def test_holds_the_budget_and_is_never_worse_than_float(space: Space, budget: float, objective: str) -> None:
    choices = greedy(space, budget, objective)  # type: ignore[arg-type]
    assert space.predicted_loss(choices) <= budget + 1e-9
    cost = space.predicted_bytes if objective == "size" else space.predicted_ms
    assert cost(choices) <= cost(space.complete({})) + 1e-9


def test_ends_within_the_budget_where_no_single_step_leads_back_to_it() -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, 1.0)) for s in SITES[:2]}
    a, b = ((site, Weight8()) for site in options)
    space = Space(options, (), (Interaction(a, b, -1.9),))
    assert set(greedy(space, 0.2).values()) == {Weight8()}
    assert set(greedy(space, 0.05).values()) == {Float()}


@pytest.mark.parametrize(("term", "budget", "changed"), [(0.2, 0.25, 1), (0.2, 0.45, 2), (-0.15, 0.12, 2)])
def test_steps_count_what_choices_lose_together(term: float, budget: float, changed: int) -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, 0.1)) for s in SITES[:2]}
    a, b = ((site, Weight8()) for site in options)
    choices = greedy(Space(options, (), (Interaction(a, b, term),)), budget)
    assert sum(choice == Weight8() for choice in choices.values()) == changed


def test_spends_the_budget_where_it_gains_most_per_loss() -> None:
    gains = (0.1, 0.2, 0.3, 0.4, 0.5)
    options = {
        s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 1 - g, 1, 0.1)) for s, g in zip(SITES, gains, strict=True)
    }
    choices = greedy(Space(options), 0.25)
    assert [choices[site].name for site in SITES] == ["float", "float", "float", "w8", "w8"]


def test_goes_through_a_chain_that_pays_only_as_a_whole() -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.8, 1, 0.1)) for s in SITES}
    chain = tuple(Crossing(a.name, a, (b,), False, 0.5, 0.5) for a, b in itertools.pairwise(SITES))
    assert set(greedy(Space(options, chain), 1.0).values()) == {StaticInt8()}


def test_holds_limits_where_it_can() -> None:
    options = (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 2.0, 2, 0.1), Option(Weight4(), 3.0, 1, 0.2))
    space = Space(dict.fromkeys(SITES, options))
    choices = greedy(space, 10.0, "latency", Limits(bytes=12))
    assert space.predicted_bytes(choices) <= 12
    assert space.predicted_ms(choices) == pytest.approx(9.0)


def test_an_empty_space_has_an_empty_answer() -> None:
    assert greedy(Space({}), 1.0) == {}
    assert path(Space({}), {}) == [{}]


def test_uniform_plans_leave_sites_in_float_that_lack_the_choice() -> None:
    a, b = SITES[:2]
    space = Space(
        {
            a: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5, 1, 0.1)),
            b: (Option(Float(), 1.0, 4, 0.0), Option(DynamicInt8(), 0.5, 1, 0.1), Option(StaticInt8(), 0.5, 1, 0.1)),
        }
    )
    assert uniform_plans(space) == [
        {a: Float(), b: Float()}, {a: Float(), b: DynamicInt8()}, {a: StaticInt8(), b: StaticInt8()}
    ]  # fmt: skip


def test_the_path_from_float_starts_there_and_each_plan_costs_less() -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.9 - 0.1 * k, 1, 0.1)) for k, s in enumerate(SITES)}
    space = Space(options)
    plans = path(space, {})
    times = [space.predicted_ms(plan) for plan in plans]
    assert plans[0] == space.complete({})
    assert len(plans) == 6
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("holding", range(1, 18))
def test_bisection_finds_the_boldest_plan_that_holds_in_few_questions(holding: int) -> None:
    plans: list[dict[Site, Choice]] = [{Site(str(k), "Conv"): Float()} for k in range(17)]
    asked: list[int] = []

    def holds(plan: Mapping[Site, Choice]) -> bool:
        asked.append(int(next(iter(plan)).name))
        return asked[-1] < holding

    assert boldest(plans, holds) is plans[holding - 1]
    assert len(asked) <= 5


def test_the_path_goes_on_from_where_it_starts() -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.9 - 0.1 * k, 1, 0.1)) for k, s in enumerate(SITES)}
    start: dict[Site, Choice] = {SITES[0]: Weight8()}
    plans = path(Space(options), start)
    assert plans[0] == Space(options).complete(start)
    assert all(plan[SITES[0]] == Weight8() for plan in plans)
    assert len(plans) == 5
