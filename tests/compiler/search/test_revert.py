from lwc.compiler.core.plan import Float, Plan, Pruned, Range, Site, StaticInt8, Weight4, Weight8, Weight16
from lwc.compiler.search.revert import revert_until
from lwc.compiler.search.space import Option, Space

SITES = tuple(Site(f"n{i}", "Conv") for i in range(6))
LOSS = dict(zip(SITES, (0.001, 0.002, 0.004, 0.008, 0.3, 0.9), strict=True))
RANGES = {"x": Range(-1.0, 1.0)}
SPACE = Space({s: (Option(Float(), 1.0, 4, 0.0), Option(StaticInt8(), 0.5, 1, LOSS[s])) for s in SITES})


def value(plan: Plan) -> float:
    return 1.0 - sum(LOSS[site] for site in plan.choices)


def test_reverting_takes_the_worst_sites_first_and_names_them() -> None:
    plan = Plan(dict.fromkeys(SITES, StaticInt8()), RANGES)
    kept, reverted = revert_until(plan, SPACE, lambda p: 1.0 - value(p) <= 0.02, "too lossy")
    assert [revert.site for revert in reverted][:2] == [SITES[5], SITES[4]]
    assert 1.0 - value(kept) <= 0.02
    assert {*kept.choices, *(revert.site for revert in reverted)} == set(SITES)


def test_reverting_stops_at_the_cheapest_choice_that_loses_less_than_half_as_much() -> None:
    (site,) = SITES[:1]
    offered = (Float(), 400, 0.0), (Weight16(), 200, 1e-6), (Weight8(), 100, 1e-4), (Weight4(), 50, 1e-2)
    space = Space({site: tuple(Option(choice, 1.0, size, loss) for choice, size, loss in offered)})
    passed: list[Plan] = []

    def holds(plan: Plan) -> bool:
        passed.append(plan)
        return not plan.choices

    kept, reverted = revert_until(Plan({site: Weight4()}), space, holds, "too lossy", "size")
    assert kept == Plan()
    assert [plan.choices.get(site) for plan in passed] == [Weight4(), Weight8(), Weight16()]
    assert [revert.choice for revert in reverted] == [Weight4(), Weight8(), Weight16()]
    # None of them is faster than float: for time there is nothing between.
    assert revert_until(Plan({site: Weight4()}), space, lambda plan: not plan.choices, "")[0] == Plan()


def test_reverting_ends_at_the_float_model() -> None:
    plan = Plan(dict.fromkeys(SITES, StaticInt8()), RANGES)
    kept, reverted = revert_until(plan, SPACE, lambda p: not p.choices, "too lossy")
    assert kept == Plan()
    assert len(reverted) == len(SITES)


def test_what_was_asked_for_is_not_taken_back() -> None:
    group = Site("n0", "Conv", "channels")
    space = Space({**SPACE.options, group: (Option(Pruned((1,)), 0.0, 0, 0.0),)})
    plan = Plan({SITES[0]: StaticInt8(), group: Pruned((1,))}, RANGES)
    kept, reverted = revert_until(plan, space, lambda p: False, "too lossy")
    assert kept.choices == {group: Pruned((1,))}
    assert [revert.site for revert in reverted] == [SITES[0]]
