import itertools
from collections.abc import Mapping

import pytest

from lwc.compiler.core.plan import Choice, Float, Plan, Range, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.search.evolve import (
    Effort,
    Evolved,
    Goal,
    Stage,
    disagree,
    effort_for,
    evolve,
    quieter,
    refine,
    stages_for,
)
from lwc.compiler.search.ledger import Limits
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Crossing, Option, Space

SITES = tuple(Site(f"n{i}", "MatMul") for i in range(8))
LOSS = {site: 0.01 + 0.001 * i for i, site in enumerate(SITES)}
SPACE = Space({
    site: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 2, loss), Option(Weight4(), 0.25, 1, 3 * loss))
    for site, loss in LOSS.items()
})  # fmt: skip
Choices = Mapping[Site, Choice]


def true_noise(choices: Choices) -> float:
    """Sites in pairs: both changed, their errors meet and count ten times; all else adds up."""
    loss = {site: SPACE.option(site, choice).loss for site, choice in choices.items()}
    pairs = zip(SITES[::2], SITES[1::2], strict=True)
    return sum(loss[a] + loss[b] + 9 * min(loss[a], loss[b]) for a, b in pairs)


def sampled_noise(choices: Choices, samples: int) -> float:
    """A few samples see the truth through a fixed distortion of at most 10 %."""
    kinds = sum(k * len(choice.name) for k, choice in enumerate(choices.values()))
    return true_noise(choices) * (1 + 0.1 * ((kinds % 7) / 7 - 0.5) * (samples < 64))


def best_by_trying_all(cost: float) -> float:
    plans = itertools.product(*(SPACE.options[site] for site in SITES))
    return min(
        true_noise({site: option.choice for site, option in zip(SITES, plan, strict=True)})
        for plan in plans
        if sum(option.ms for option in plan) <= cost + 1e-9
    )


def least_cost_by_trying_all(noise: float) -> float:
    plans = itertools.product(*(SPACE.options[site] for site in SITES))
    return min(
        sum(option.ms for option in plan)
        for plan in plans
        if true_noise({site: option.choice for site, option in zip(SITES, plan, strict=True)}) <= noise
    )


LONG = Effort(generations=60, offspring=24, patience=15)


def run(start: Choices, goal: Goal, effort: Effort = LONG) -> Evolved:
    return evolve(SPACE, start, sampled_noise, goal, stages_for(64), effort)


def test_finds_the_optimum_that_sums_of_single_losses_miss() -> None:
    start = solve(SPACE, 0.06)
    cost = SPACE.predicted_ms(start)
    optimum = best_by_trying_all(cost)
    assert true_noise(start) > 1.5 * optimum
    found = run(start, quieter(SPACE, start))
    assert found.noise == pytest.approx(optimum)
    assert SPACE.predicted_ms(found.choices) <= cost + 1e-9


def test_finds_the_cheapest_plan_of_the_same_noise() -> None:
    start = solve(SPACE, 0.06)
    found = run(start, Goal(enough=true_noise(start)))
    assert found.noise <= true_noise(start)
    assert found.totals.ms == pytest.approx(least_cost_by_trying_all(true_noise(start)))
    assert found.totals.ms < found.start_totals.ms


def test_a_start_over_the_noise_becomes_quiet_enough() -> None:
    start = solve(SPACE, float("inf"))
    enough = 0.2 * true_noise(start)
    assert run(start, Goal(enough=enough)).noise <= enough


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("effort", [(1, 1, 1), (3, 4, 2)])
def test_never_returns_worse_than_its_start(seed: int, effort: tuple[int, int, int]) -> None:
    generations, offspring, patience = effort
    budget = 0.01 * (seed + 1)
    start = solve(SPACE, budget)
    found = run(start, quieter(SPACE, start), Effort(generations, offspring, 3, patience, seed))
    assert found.noise <= true_noise(start)
    assert found.totals.ms <= SPACE.predicted_ms(start) + 1e-9
    assert found.start_noise == true_noise(start)


def test_the_same_seed_gives_the_same_plan() -> None:
    start = solve(SPACE, 0.06)
    first, second = (run(start, quieter(SPACE, start), Effort(seed=3, generations=4)) for _ in range(2))
    assert first == second


def test_limits_are_not_passed() -> None:
    start = solve(SPACE, 0.06)
    limits = Limits(bytes=SPACE.predicted_bytes(start))
    found = run(start, Goal(enough=0.5, limits=limits))
    assert SPACE.predicted_bytes(found.choices) <= limits.bytes
    loose = run(start, Goal("latency", enough=0.0, most_cost=8.0))
    assert SPACE.predicted_bytes(loose.choices) > limits.bytes  # without the limit, noise is bought with bytes


def test_for_size_the_cost_is_bytes() -> None:
    start = solve(SPACE, 0.06, "size")
    found = run(start, Goal("size", enough=true_noise(start)))
    assert found.totals.bytes < SPACE.predicted_bytes(start)


def test_no_plan_is_measured_twice_and_most_on_few_samples() -> None:
    asked: list[tuple[tuple[Choice, ...], int]] = []

    def noise(choices: Choices, samples: int) -> float:
        asked.append((tuple(choices.values()), samples))
        return sampled_noise(choices, samples)

    start = solve(SPACE, 0.06)
    found = evolve(SPACE, start, noise, quieter(SPACE, start), stages_for(64), Effort(generations=6, patience=6))
    assert len(asked) == len(set(asked)) == found.evaluations
    counts = {samples: sum(asked_on == samples for _, asked_on in asked) for samples in (4, 16, 64)}
    assert counts[4] > counts[16] > counts[64] > 1
    assert sum(counts.values()) == len(asked)


def test_sites_without_a_choice_stay_as_they_are() -> None:
    space = Space({site: options[:1] for site, options in SPACE.options.items()})
    found = evolve(space, {}, lambda choices, samples: 1.0, Goal(), stages_for(8), Effort())
    assert found.choices == space.complete({})
    assert not found.improved


@pytest.mark.parametrize(
    ("samples", "stages"),
    [(64, [(4, 4), (16, 2), (64, 1)]), (8, [(1, 4), (2, 2), (8, 1)]), (4, [(1, 2), (4, 1)]), (1, [(1, 1)])],
)
def test_selection_ends_on_all_samples(samples: int, stages: list[tuple[int, int]]) -> None:
    assert stages_for(samples) == tuple(Stage(*stage) for stage in stages)


@pytest.mark.parametrize(
    ("predicted", "measured", "expected"),
    [(0.1, 0.12, False), (0.1, 0.2, True), (0.2, 0.1, True), (0.0, 0.0, False), (0.0, 0.1, True)],
)
def test_prediction_and_measurement_disagree_beyond_what_samples_explain(
    predicted: float, measured: float, expected: bool
) -> None:
    assert disagree(predicted, measured) is expected


class ToyBench:
    """Measures the truth on 64 samples and counts."""

    samples = range(64)

    def __init__(self) -> None:
        self.measured = 0

    def noise(self, plan: Plan, count: int) -> float:
        self.measured += 1
        return sampled_noise(SPACE.complete(plan.choices), count)


def test_a_plan_whose_noise_was_not_foreseen_is_refined() -> None:
    ranges = {"x": Range(0.0, 1.0)}
    plan = Plan({s: c for s, c in solve(SPACE, 0.06).items() if not isinstance(c, Float)}, ranges)
    better = refine(ToyBench(), SPACE, plan, Goal(), LONG)  # type: ignore[arg-type]
    assert true_noise(SPACE.complete(better.choices)) <= true_noise(SPACE.complete(plan.choices))
    assert SPACE.predicted_ms(SPACE.complete(better.choices)) < SPACE.predicted_ms(SPACE.complete(plan.choices))
    assert better.ranges == ranges


@pytest.mark.parametrize("plan", [Plan(), Plan({SITES[0]: Weight8()}, {})])
def test_a_plan_that_is_as_foreseen_is_left_alone(plan: Plan) -> None:
    bench = ToyBench()
    assert refine(bench, SPACE, plan, Goal(), Effort()) is plan  # type: ignore[arg-type]
    assert bench.measured <= 1


def test_integer_neighbours_can_change_together() -> None:
    options = {s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.8, 1, 0.1)) for s in SITES[:2]}
    space = Space(options, (Crossing("v", SITES[0], (SITES[1],), False, 0.5, 0.5),))
    found = evolve(space, {}, lambda choices, samples: 0.0, Goal(), stages_for(4), Effort(seed=1))
    assert set(found.choices.values()) == {StaticInt8()}


def test_large_models_get_fewer_generations_and_the_largest_none() -> None:
    generations = [effort_for(macs, 64).generations for macs in (10**5, 3 * 10**8, 10**12)]
    assert Effort().generations >= generations[0] > 2
    assert generations[0] > generations[1] > generations[2] == 0
    start = solve(SPACE, 0.06)
    assert run(start, quieter(SPACE, start), effort_for(10**12, 64)).choices == start
