import json
from dataclasses import replace
from typing import Any

import pytest

from lwc.compiler.core.plan import DynamicInt8, Float, Plan, Range, Site, Weight4, Weight8
from lwc.compiler.core.report import CompileReport
from lwc.compiler.search.pareto import Front, Point, candidate_plans, find_front, sweep
from lwc.compiler.search.space import Option, Space

SITES = tuple(Site(f"n{i}", "MatMul") for i in range(6))
RANGES = {"x": Range(0.0, 1.0)}
SPACE = Space({
    site: (
        Option(Float(), 1.0, 400, 0.0),
        Option(DynamicInt8(), 0.5, 100, 0.002 * (i + 1)),
        Option(Weight8(), 0.9, 100, 0.0005 * (i + 1)),
        Option(Weight4(), 0.8, 50, 0.01 * (i + 1)),
    )
    for i, site in enumerate(SITES)
})  # fmt: skip


def point(ms: float, size: int, drop: float, noise: float = 0.0) -> Point:
    return Point(Plan(), ms, 10.0 / ms, size, drop, noise)


def test_only_points_that_no_other_beats_in_all_three_stay() -> None:
    fast, small, exact = point(1.0, 400, 0.01), point(3.0, 50, 0.01), point(4.0, 400, 0.0)
    beaten = point(3.0, 400, 0.01)
    front = Front.of([beaten, exact, small, fast])
    assert [replace(p, name="") for p in front.points] == [fast, small, exact]
    assert front.beaten == (beaten,)
    assert [p.name for p in front.points] == ["01", "02", "03"]


def test_times_that_the_clock_cannot_tell_apart_are_equal() -> None:
    quiet, noisy = point(1.01, 100, 0.0), point(1.0, 100, 0.005)
    assert Front.of([noisy, quiet]).beaten == (noisy,)
    assert not Front.of([point(1.1, 100, 0.0), noisy]).beaten


def test_drops_are_told_apart_in_steps_and_one_below_zero_is_luck() -> None:
    fast, lucky = point(1.0, 100, 0.0004), point(2.0, 100, -0.02)
    assert Front.of([fast, lucky]).beaten == (lucky,)
    assert not Front.of([fast, lucky], resolution=1e-4).beaten


def test_of_equal_points_the_one_with_less_noise_stays() -> None:
    loud, quiet = point(1.0, 100, 0.0, noise=0.1), point(1.0, 100, 0.0, noise=0.01)
    front = Front.of([loud, quiet])
    assert [p.noise for p in front.points] == [0.01]
    assert front.beaten == (loud,)


def test_plans_of_falling_budgets_lose_less_and_cost_more() -> None:
    plans = sweep(SPACE, "latency", 6)
    losses = [SPACE.predicted_loss(plan) for plan in plans]
    times = [SPACE.predicted_ms(plan) for plan in plans]
    assert losses == sorted(losses, reverse=True)
    assert times == sorted(times)
    assert times[0] == pytest.approx(3.0)
    assert len({tuple(plan.values()) for plan in plans}) > 3


def test_candidates_are_float_fast_ones_and_small_ones_each_once() -> None:
    plans = candidate_plans(SPACE, RANGES)
    assert plans[0] == Plan()
    kinds = [{choice.name for choice in plan.choices.values()} for plan in plans]
    assert {"int8-dynamic"} in kinds
    assert {"w4"} in kinds
    assert len({plan.digest() for plan in plans}) == len(plans)


def test_a_space_without_choices_has_one_plan() -> None:
    assert candidate_plans(Space({}), RANGES) == [Plan()]
    assert candidate_plans(Space({s: options[:1] for s, options in SPACE.options.items()}), RANGES) == [Plan()]


class ToyBench:
    """Everything is as predicted, and the metric falls by the loss."""

    samples = range(10)
    model = None
    crashes = False

    def choices(self, plan: Plan) -> dict[Site, object]:
        return SPACE.complete(plan.choices)  # type: ignore[return-value]

    def ratio(self, plan: Plan, reference: Plan) -> float:
        return SPACE.predicted_ms(self.choices(plan)) / SPACE.predicted_ms(self.choices(reference))  # type: ignore[arg-type]

    def value(self, plan: Plan) -> float:
        return 0.9 - self.noise(plan, 10)

    def noise(self, plan: Plan, count: int) -> float:
        return SPACE.predicted_loss(self.choices(plan))  # type: ignore[arg-type]

    def refusal(self, plan: Plan) -> str:
        return "crashes" if self.crashes and plan.choices else ""

    def file_bytes(self, plan: Plan) -> int:
        return 17 + SPACE.predicted_bytes(self.choices(plan))  # type: ignore[arg-type]


def test_the_front_is_measured_end_to_end() -> None:
    measured: list[None] = []
    bench: Any = ToyBench()
    front = find_front(
        bench, SPACE, RANGES, 12.0, bench.file_bytes, resolution=1e-6, each=lambda: measured.append(None)
    )
    assert len(measured) == len(front.points) + len(front.beaten)
    fastest, slowest = front.points[0], front.points[-1]
    assert (fastest.ms, fastest.speedup, fastest.bytes) == (pytest.approx(6.0), pytest.approx(2.0), 617)
    assert (slowest.ms, slowest.drop, slowest.bytes) == (pytest.approx(12.0), 0.0, 2417)
    assert min(p.bytes for p in front.points) == 317
    for one in front.points:
        others = [p for p in front.points if p is not one]
        assert not any(p.ms < one.ms and p.bytes < one.bytes and p.drop < one.drop for p in others)


def test_plans_that_cannot_run_are_no_points() -> None:
    bench: Any = ToyBench()
    bench.crashes = True
    front = find_front(bench, SPACE, RANGES, 12.0, bench.file_bytes)
    assert [one.plan for one in (*front.points, *front.beaten)] == [Plan()]


def test_the_front_as_json_is_what_the_report_holds() -> None:
    plan = Plan({SITES[0]: Weight4(), SITES[1]: Weight4(), SITES[2]: DynamicInt8()}, RANGES)
    front = Front.of([Point(plan, 1.0, 2.0, 300, 0.001, 1e-4), point(5.0, 400, 0.001)])
    data = json.loads(front.to_json())
    assert data["schema"] == 1
    assert data["points"] == front.to_list()
    first, second = data["points"]
    assert first["choices"] == {"int8-dynamic": 1, "w4": 2}
    assert (first["name"], first["front"], second["front"]) == ("01", True, False)
    assert "pareto" in CompileReport.__dataclass_fields__
