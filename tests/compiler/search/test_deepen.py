from lwc.compiler.core.plan import Float, Plan, Pruned, Range, Site, StaticInt8
from lwc.compiler.search.deepen import Deepening
from lwc.compiler.search.ledger import Limits
from lwc.compiler.search.space import Option, Space

RANGES = {"x": Range(-1.0, 1.0)}
GROUPS = tuple(Site(f"g{i}", "Conv", "channels") for i in range(3))
LAYER = Site("n", "Conv")
WIDTHS = tuple(Pruned(tuple(range(k))) for k in (1, 2, 3))


def options(loss: float) -> tuple[Option, ...]:
    pruned = (Option(c, -0.1 * (k + 1), -10, loss * (k + 1)) for k, c in enumerate(WIDTHS))
    return Option(Float(), 0.0, 0, 0.0), *pruned


LAYERS = (Option(Float(), 2.0, 400, 0.0), Option(StaticInt8(), 1.5, 100, 0.001))
SPACE = Space({LAYER: LAYERS, **{site: options(0.01 * (k + 1)) for k, site in enumerate(GROUPS)}})


def depth(plan: Plan, site: Site) -> int:
    choice = plan.choices.get(site)
    return len(choice.removed) if isinstance(choice, Pruned) else 0


def noise(plan: Plan) -> float:
    """The first two groups ruin each other's work."""
    first, second, third = (depth(plan, site) for site in GROUPS)
    return 0.01 * first + 0.02 * second + 0.03 * third + 0.2 * first * second


def test_takes_steps_by_what_they_cost_in_the_plan_and_not_alone() -> None:
    plan = Deepening(SPACE, lambda p: noise(p) <= 0.12, noise, 100).run(Plan({LAYER: StaticInt8()}, RANGES))
    assert [depth(plan, site) for site in GROUPS] == [3, 0, 3]
    assert plan.choices[LAYER] == StaticInt8()
    assert plan.ranges == RANGES


def test_goes_on_with_other_groups_where_one_does_not_hold() -> None:
    plan = Deepening(SPACE, lambda p: depth(p, GROUPS[0]) == 0, noise, 100).run(Plan())
    assert [depth(plan, site) for site in GROUPS] == [0, 3, 3]


def test_measures_no_more_than_it_may() -> None:
    asked: list[Plan] = []

    def counted(plan: Plan) -> float:
        asked.append(plan)
        return noise(plan)

    Deepening(SPACE, lambda p: True, counted, 4).run(Plan())
    assert len(asked) == 4


def test_measures_a_step_again_only_where_another_may_be_better() -> None:
    asked: list[Plan] = []

    def additive(plan: Plan) -> float:
        asked.append(plan)
        return sum(SPACE.option(site, choice).loss for site, choice in plan.choices.items())

    plan = Deepening(SPACE, lambda p: True, additive, 100).run(Plan())
    assert [depth(plan, site) for site in GROUPS] == [3, 3, 3]
    assert len(asked) <= 1 + 9 + 2  # the start, nine steps; rounding may ask twice


def test_leaves_out_steps_that_save_nothing() -> None:
    flat = (Option(Float(), 0.0, 0, 0.0), Option(WIDTHS[0], 0.0, -10, 0.01), Option(WIDTHS[1], -0.5, -20, 0.02))
    space = Space({LAYER: LAYERS, GROUPS[0]: flat})
    plan = Deepening(space, lambda p: True, noise, 100).run(Plan())
    assert plan.choices[GROUPS[0]] == WIDTHS[1]
    plan = Deepening(space, lambda p: depth(p, GROUPS[0]) < 2, noise, 100).run(Plan())
    assert not plan.choices


def test_a_hard_limit_that_was_passed_before_stops_nothing() -> None:
    within = Deepening(SPACE, lambda p: True, noise, 100, limits=Limits(ms=0.1)).run(Plan())
    assert [depth(within, site) for site in GROUPS] == [3, 3, 3]


def test_for_size_steps_are_ordered_by_bytes() -> None:
    heavy = (Option(Float(), 0.0, 0, 0.0), Option(WIDTHS[0], 0.1, -100, 0.01))
    space = Space({LAYER: LAYERS, GROUPS[0]: heavy})
    assert not Deepening(space, lambda p: True, noise, 100).run(Plan()).choices
    assert Deepening(space, lambda p: True, noise, 100, "size").run(Plan()).choices


def test_stops_where_it_is_enough() -> None:
    deepening = Deepening(SPACE, lambda p: True, noise, 100, enough=lambda p: sum(depth(p, s) for s in GROUPS) >= 2)
    plan = deepening.run(Plan())
    assert [depth(plan, site) for site in GROUPS] == [2, 0, 0]
