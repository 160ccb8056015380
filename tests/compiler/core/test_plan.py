"""A plan says the same after a trip through JSON, and a damaged one is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.plan import CHOICES, Choice, DynamicInt8, Float, Plan, Range, Site, StaticInt8, Weight16

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.floats(allow_nan=False)
SITES = st.builds(Site, TEXT, TEXT, TEXT)
CHOSEN: st.SearchStrategy[Choice] = st.one_of(
    st.builds(Float),
    st.builds(StaticInt8, st.sampled_from(["minmax", "mse"]), activation_bits=st.sampled_from([8, 16])),
    st.builds(Weight16),
    st.builds(DynamicInt8, st.sampled_from(["minmax", "mse"])),
)
PLANS = st.builds(
    Plan,
    st.dictionaries(SITES, CHOSEN, max_size=5),
    st.dictionaries(TEXT, st.builds(Range, NUMBER, NUMBER), max_size=5),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

CONV = Site("conv", "Conv")
PLAN = Plan({CONV: StaticInt8("mse"), Site("fc", "Gemm"): DynamicInt8()}, {"x": Range(-1.0, 2.5)})


@given(PLANS)
def test_json_round_trip_keeps_all(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    assert again.digest() == plan.digest()


@given(PLANS, st.randoms(use_true_random=False))
def test_text_and_digest_ignore_the_order_of_insertion(plan: Plan, random: Any) -> None:
    choices, ranges = list(plan.choices.items()), list(plan.ranges.items())
    random.shuffle(choices)
    random.shuffle(ranges)
    other = Plan(dict(choices), dict(ranges))
    assert other.to_json() == plan.to_json()
    assert other.digest() == plan.digest()


@given(PLANS, SITES, CHOSEN)
def test_replace_changes_one_site_of_a_copy(plan: Plan, site: Site, choice: Choice) -> None:
    before = plan.to_json()
    other = plan.replace(site, choice)
    assert other.choices == {**plan.choices, site: choice}
    assert other.ranges == plan.ranges
    assert plan.to_json() == before


def test_a_choice_a_range_and_an_option_each_change_the_digest() -> None:
    others = [
        PLAN.replace(CONV, Float()),
        PLAN.replace(CONV, StaticInt8("minmax")),
        PLAN.replace(CONV, StaticInt8("mse", activation_bits=16)),
        PLAN.replace(CONV, DynamicInt8("mse")),
        Plan(PLAN.choices, {"x": Range(-1.0, 2.0)}),
        Plan(PLAN.choices),
    ]
    assert len({PLAN.digest(), *(other.digest() for other in others)}) == 7


def test_sites_are_given_by_type_in_order_of_insertion() -> None:
    plan = PLAN.replace(Site("a", "Conv"), StaticInt8())
    assert [site.name for site, _ in plan.sites(StaticInt8)] == ["conv", "a"]
    assert [site.name for site, _ in plan.sites(DynamicInt8)] == ["fc"]
    assert [site.name for site, _ in plan.sites(Choice)] == ["conv", "fc", "a"]


def test_every_choice_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in CHOICES}) == len(CHOICES)


def damaged(**changes: Any) -> str:
    return json.dumps({**json.loads(PLAN.to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        damaged(choices=None),
        damaged(choices=[{}]),
        damaged(choices=[{"site": {"name": "a", "op": "b"}, "choice": "int3"}]),
        damaged(choices=[{"site": {"name": "a", "op": "b"}, "choice": "float", "speed": 1}]),
        damaged(choices=[{"site": {"name": "a", "op": "b", "colour": "red"}, "choice": "float"}]),
        damaged(choices=[{"site": {"name": []}, "choice": "float"}]),
        damaged(ranges={"x": [1.0]}),
        damaged(ranges={"x": ["low", "high"]}),
        damaged(ranges=[1]),
    ],
)
def test_refuses_what_is_no_plan(text: str) -> None:
    with pytest.raises(BadPlan, match="The plan cannot be read"):
        Plan.from_json(text)


def test_refuses_a_plan_of_another_schema() -> None:
    with pytest.raises(BadPlan, match="schema 99; this lwc reads 1"):
        Plan.from_json(damaged(schema=99))


@given(JSON, JSON)
def test_any_json_is_a_plan_or_refused(choices: Any, ranges: Any) -> None:
    try:
        plan = Plan.from_json(damaged(choices=choices, ranges=ranges))
    except BadPlan:
        return
    assert isinstance(plan, Plan)
