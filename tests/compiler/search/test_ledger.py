import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.plan import Float, Float16, Site, StaticInt8, Weight4
from lwc.compiler.search.ledger import Ledger, Limits, Totals, limits_for
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Crossing, Interaction, Option, Space

SITES = tuple(Site(f"n{i}", "Conv") for i in range(6))
CHOICES = (Float(), StaticInt8(), Weight4(), Float16())
SPACE = Space(
    {
        s: tuple(Option(c, 1.0 + 0.3 * i * k, 8 - k, 0.01 * k) for k, c in enumerate(CHOICES))
        for i, s in enumerate(SITES)
    },
    tuple(
        Crossing(f"v{i}", SITES[i - 1] if i else None, SITES[i : i + 2], i % 2 == 0, 0.1 * i, 0.2, {"float16": 0.4})
        for i in range(6)
    ),
    tuple(
        Interaction((SITES[i], CHOICES[1 + i % 3]), (SITES[(i + k) % 6], CHOICES[1 + (i + k) % 3]), 0.004 * (i - 2.5))
        for i in range(6)
        for k in (1, 3)
    ),
)
PICKS = st.lists(st.sampled_from(CHOICES), min_size=6, max_size=6).map(lambda c: dict(zip(SITES, c, strict=True)))


@settings(max_examples=60, deadline=None)
@given(start=PICKS, steps=st.lists(st.dictionaries(st.sampled_from(SITES), st.integers(0, 3), max_size=3), max_size=5))
def test_changes_add_up_to_what_the_space_predicts(start: dict[Site, object], steps: list[dict[Site, int]]) -> None:
    ledger = Ledger(SPACE, start)  # type: ignore[arg-type]
    for step in steps:
        ledger.apply({site: SPACE.options[site][k] for site, k in step.items()})
    choices = ledger.choices
    assert ledger.totals.ms == pytest.approx(SPACE.predicted_ms(choices))
    assert ledger.totals.bytes == SPACE.predicted_bytes(choices)
    assert ledger.totals.loss == pytest.approx(SPACE.predicted_loss(choices))


def test_a_fork_changes_alone() -> None:
    ledger = Ledger(SPACE, {})
    fork = ledger.fork()
    fork.apply({SITES[0]: SPACE.options[SITES[0]][1]})
    assert ledger.choices == SPACE.complete({})
    assert fork.choices[SITES[0]] == StaticInt8()
    assert ledger.totals != fork.totals


def test_neighbours_share_a_value() -> None:
    assert set(Ledger(Space(SPACE.options, SPACE.crossings), {}).neighbours(SITES[0])) == set(SITES[:3])


def test_neighbours_interact() -> None:
    pair = Interaction((SITES[0], Weight4()), (SITES[5], Weight4()), 0.1)
    assert set(Ledger(Space(SPACE.options, (), (pair,)), {}).neighbours(SITES[5])) == {SITES[0], SITES[5]}


def test_an_infinite_loss_can_be_taken_back() -> None:
    site = SITES[0]
    space = Space({site: (Option(Float(), 1.0, 4, 0.0), Option(Weight4(), 0.5, 1, float("inf")))})
    ledger = Ledger(space, {site: Weight4()})
    ledger.apply({site: space.options[site][0]})
    assert ledger.totals == Totals(1.0, 4, 0.0)


def test_overshoot_is_counted_in_shares_of_the_limits() -> None:
    totals = Totals(ms=3.0, bytes=50, loss=0.0)
    assert totals.overshoot(Limits()) == totals.overshoot(Limits(3.0, 50)) == 0.0
    assert totals.overshoot(Limits(2.0, 40)) == pytest.approx(0.75)


TWO = Space({s: (Option(Float(), 2.0, 40, 0.0), Option(Weight4(), 1.0, 10, 0.1)) for s in SITES[:2]})


def test_budgets_of_the_model_leave_its_sites_what_the_rest_does_not_take() -> None:
    assert limits_for(TWO, 5.0, 100, max_ms=4.0, max_bytes=70) == Limits(3.0, 50)
    assert limits_for(TWO, 5.0, 100) == Limits()


def test_profiles_that_sum_up_to_more_than_the_model_takes_are_scaled() -> None:
    assert limits_for(TWO, 2.0, 100, max_ms=1.5).ms == pytest.approx(3.0)


def test_budgets_below_the_rest_of_the_model_leave_nothing() -> None:
    limits = limits_for(TWO, 5.0, 100, max_ms=0.5, max_bytes=10)
    assert (limits.ms, limits.bytes) == (-0.5, -10)
    assert set(solve(TWO, 1.0, "latency", limits).values()) == {Weight4()}
