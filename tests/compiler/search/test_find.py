import itertools
from collections.abc import Callable

import pytest

from lwc.compiler.core.plan import BFloat16, Choice, Float, Plan, Range, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.search.evolve import Effort
from lwc.compiler.search.find import Finder
from lwc.compiler.search.ledger import Limits
from lwc.compiler.search.space import Option, Space

SITES = tuple(Site(f"n{i}", "Conv") for i in range(6))
RANGES = {"x": Range(-1.0, 1.0)}
LOSS = dict(zip(SITES, (0.001, 0.002, 0.004, 0.008, 0.3, 0.9), strict=True))
SPACE = Space({s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5, 1, LOSS[s])) for s in SITES})


class ToyBench:
    """Accuracy falls by the sum of the losses; time is what `ms` says of the integer sites."""

    def __init__(self, ms: Callable[[frozenset[Site]], float]) -> None:
        self.ms = ms

    samples = range(1000)

    def noise(self, plan: Plan, count: int) -> float:
        return 10 * sum(LOSS[site] for site in plan.choices)

    def is_quiet(self, plan: Plan, most: float) -> bool:
        return self.noise(plan, len(self.samples)) <= most

    def value(self, plan: Plan) -> float:
        return 1.0 - sum(LOSS[site] for site in plan.choices)

    def ratio(self, plan: Plan, reference: Plan) -> float:
        return self.ms(frozenset(plan.choices)) / self.ms(frozenset(reference.choices))


def finder(ms: Callable[[frozenset[Site]], float], max_drop: float, classes: dict[str, list[Site]]) -> Finder:
    return Finder(SPACE, RANGES, ToyBench(ms), max_drop, classes)  # type: ignore[arg-type]


def half_each(integer: frozenset[Site]) -> float:
    return len(SITES) - 0.5 * len(integer)


def test_keeps_every_site_that_fits_the_budget() -> None:
    found = finder(half_each, 0.02, {}).find()
    assert set(found.plan.choices) == set(SITES[:4])


def test_everything_is_integer_when_the_budget_is_wide() -> None:
    assert set(finder(half_each, 2.0, {}).find().plan.choices) == set(SITES)


def test_ends_in_float_when_the_clock_says_integer_is_slower() -> None:
    found = finder(lambda integer: 6.0 + len(integer), 2.0, {}).find()
    assert not found.plan.choices
    assert found.plan.digest() == Plan().digest()
    assert {revert.site for revert in found.reverted} == set(SITES)


def test_takes_out_a_class_that_is_slower_than_its_costs_promised() -> None:
    def ms(integer: frozenset[Site]) -> float:
        return 6.0 - 0.5 * len(integer) + 2.0 * (SITES[0] in integer)

    found = finder(ms, 2.0, {"first": [SITES[0]], "rest": list(SITES[1:])}).find()
    assert set(found.plan.choices) == set(SITES[1:])
    assert [revert.site for revert in found.reverted] == [SITES[0]]


def test_tries_the_uniform_plan_that_only_pays_as_a_whole() -> None:
    def ms(integer: frozenset[Site]) -> float:
        return 3.0 if len(integer) == len(SITES) else 6.0 + len(integer)

    classes = {site.name: [site] for site in SITES}
    assert set(finder(ms, 2.0, classes).find().plan.choices) == set(SITES)
    assert not finder(ms, 0.02, classes).find().plan.choices  # fast, but over the budget


def test_too_few_samples_to_resolve_the_budget_do_not_let_noise_pass() -> None:
    search = finder(half_each, 0.02, {})
    search.bench.samples = range(10)  # type: ignore[assignment]
    plan = search.find().plan
    assert plan.choices
    assert set(plan.choices) < set(SITES[:4])


def test_keeps_float_when_no_loss_is_allowed() -> None:
    assert not finder(half_each, 0.0, {}).find().plan.choices


class SharedBench(ToyBench):
    """Every format in use stores the weight of SITES[:3] once; four bits are too lossy in SITES[0]."""

    def __init__(self, lossy: bool) -> None:
        self.lossy = lossy

    def value(self, plan: Plan) -> float:
        return 1.0 - (self.lossy and plan.choices.get(SITES[0]) == Weight4())

    def weight_bytes(self, plan: Plan) -> int:
        sizes = {Weight8(): 100, Weight4(): 50}
        return sum(sizes.get(choice, 400) for choice in {plan.choices.get(site) for site in SITES[:3]})


@pytest.mark.parametrize(("lossy", "joined"), [(True, Weight8()), (False, Weight4())])
def test_sites_that_share_a_weight_get_one_format_where_that_is_smaller(lossy: bool, joined: Choice) -> None:
    def options(loss: float) -> tuple[Option, ...]:
        return Option(Float(), 1.0, 133, 0.0), Option(Weight8(), 1.0, 33, 0.001), Option(Weight4(), 1.0, 17, loss)

    space = Space({site: options(0.5 if site == SITES[0] else 0.004) for site in SITES[:3]})
    bench = SharedBench(lossy)
    found = Finder(space, {}, bench, 0.02, {}, "size", sharing=[SITES[:3]]).find()  # type: ignore[arg-type]
    assert set(found.plan.choices.values()) == {joined}
    assert len(found.plan.choices) == 3
    alone = Finder(space, {}, bench, 0.02, {}, "size").find()  # type: ignore[arg-type]
    assert bench.weight_bytes(found.plan) <= bench.weight_bytes(alone.plan)


def test_greedy_moves_fill_what_the_steps_of_the_budget_leave() -> None:
    sites = tuple(Site(f"m{i}", "MatMul") for i in range(40))
    space = Space({s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5, 1, 0.001)) for s in sites})

    class Even(ToyBench):
        def value(self, plan: Plan) -> float:
            return 1.0 - 0.001 * len(plan.choices)

    for allowed in range(4, 40, 3):
        search = Finder(space, RANGES, Even(lambda integer: 40 - 0.5 * len(integer)), 0.001 * allowed + 1e-9, {})  # type: ignore[arg-type]
        assert len(search.find().plan.choices) == allowed


def test_hard_limits_reach_the_programs() -> None:
    slow = Space({s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 1.5, 1, 0.001)) for s in SITES})
    found = [
        Finder(slow, RANGES, ToyBench(half_each), 2.0, {}, "size", limits=limits).find()  # type: ignore[arg-type]
        for limits in (Limits(), Limits(ms=7.6))
    ]
    assert [len(each.plan.choices) for each in found] == [6, 3]


def test_evolution_finds_what_sums_of_losses_hide() -> None:
    """Any two neighbours together ruin the outputs; alone, each loses next to nothing."""
    space = Space(
        {s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5 + 0.01 * i, 1, 1e-4)) for i, s in enumerate(SITES)}
    )

    class Touchy(ToyBench):
        def noise(self, plan: Plan, count: int) -> float:
            chosen = [site in plan.choices for site in SITES]
            return 1e-4 * sum(chosen) + 0.02 * sum(a and b for a, b in itertools.pairwise(chosen))

        def value(self, plan: Plan) -> float:
            return 1.0 - self.noise(plan, 1000)

    def plan(effort: Effort | None) -> Plan:
        clock = Touchy(lambda integer: 6.0 - 0.5 * len(integer))
        return Finder(space, RANGES, clock, 0.025, {}, effort=effort).find().plan  # type: ignore[arg-type]

    without, evolved = plan(None), plan(Effort(generations=30, patience=10))
    assert Touchy(half_each).value(evolved) >= 0.975
    assert len(evolved.choices) > len(without.choices)


def test_formats_that_profiles_rule_out_are_not_put_on_the_clock() -> None:
    options = (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.4, 2, 1e-4), Option(Weight4(), 1.5, 1, 1e-4))
    asked: list[Plan] = []

    class Watched(ToyBench):
        def value(self, plan: Plan) -> float:
            return 1.0

        def ratio(self, plan: Plan, reference: Plan) -> float:
            asked.append(plan)
            return super().ratio(plan, reference)

    space = Space(dict.fromkeys(SITES, options))
    found = Finder(space, RANGES, Watched(half_each), 0.9, {}).find()  # type: ignore[arg-type]
    assert set(found.plan.choices) == set(SITES)
    assert asked
    assert not any(isinstance(choice, Weight4) for plan in asked for choice in plan.choices.values())


def test_a_plan_within_a_hard_size_is_not_given_up_for_a_faster_one_beyond_it() -> None:
    search = finder(lambda integer: 6.0 + len(integer), 2.0, {"all": list(SITES)})  # float is fastest
    search.limits = Limits(bytes=float(len(SITES)))
    assert set(search.find().plan.choices) == set(SITES)
    search = finder(lambda integer: 6.0 + len(integer), 2.0, {"all": list(SITES)})
    assert not search.find().plan.choices


def test_of_equally_fast_plans_the_uniform_one_is_taken_where_it_loses_less() -> None:
    def options(site: Site) -> tuple[Option, ...]:
        # The profile prefers int8 at three sites; the clock sees no difference.
        mixed = 0.4 if site in SITES[:3] else 0.6
        return Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), mixed, 1, 1e-3), Option(BFloat16(), 0.5, 2, 1e-5)

    search = finder(lambda changed: 6.0 if not changed else 3.0, 2.0, {})
    search.space = Space({site: options(site) for site in SITES})
    assert set(search.find().plan.choices.values()) == {BFloat16()}
    search = finder(lambda changed: 6.0 if not changed else 3.0, 2.0, {})
    search.space = Space({site: options(site)[:2] for site in SITES})
    assert set(search.find().plan.choices.values()) == {StaticInt8()}
