import math

import numpy as np
import pytest

from lwc.compiler.core.plan import Float, Plan, Site, Weight8
from lwc.compiler.core.report import Accuracy
from lwc.compiler.measure import Scores, accuracy
from lwc.compiler.metrics import find_metric
from lwc.compiler.search.interval import Verdict, prefer_safer, stated, verdict_of
from lwc.compiler.search.space import Option, Space


def judged(drop: float, low: float, high: float, max_drop: float = 0.01) -> Accuracy:
    return Accuracy("top1", 0.9, 0.9 - drop, drop, max_drop, drop <= max_drop, (low, high))


@pytest.mark.parametrize(
    ("drop", "low", "high", "standing"),
    [
        (0.002, -0.001, 0.006, "held"),
        (0.01, 0.01, 0.01, "held"),
        (0.005, -0.005, 0.015, "straddles"),
        (0.015, 0.005, 0.03, "straddles"),
        (0.03, 0.02, 0.04, "broken"),
        (0.0, math.nan, math.nan, "straddles"),
    ],
)
def test_the_whole_interval_decides(drop: float, low: float, high: float, standing: str) -> None:
    assert verdict_of(judged(drop, low, high), 64).standing == standing


def test_the_text_names_drop_budget_interval_and_count() -> None:
    text = verdict_of(judged(0.005, -0.005, 0.015), 64).text
    for part in (
        "0.005",
        "[-0.005, 0.015]",
        "0.01",
        "64 held-out samples",
        "straddles",
        "256 held-out samples would settle it",
    ):
        assert part in text
    assert "is over" in verdict_of(judged(0.03, 0.02, 0.04), 1).text
    assert "1 held-out sample " in verdict_of(judged(0.03, 0.02, 0.04), 1).text
    assert "has no 95 % interval" in verdict_of(judged(0.0, math.nan, math.nan), 8).text


def test_samples_that_a_limit_left_out_are_pointed_at_where_they_would_help() -> None:
    assert "holds 936 that --samples left out" in verdict_of(judged(0.005, -0.005, 0.015), 64, 936).text
    assert "--samples" not in verdict_of(judged(0.002, -0.001, 0.006), 64, 936).text


def test_samples_that_all_agree_do_not_promise_that_unseen_ones_do() -> None:
    assert "up to 9% of unseen ones may not" in verdict_of(judged(0.0, 0.0, 0.0), 32).text
    assert "unseen" not in verdict_of(judged(0.0, -0.001, 0.001), 32).text


def test_a_drop_at_the_budget_itself_is_settled_by_no_number_of_samples() -> None:
    assert verdict_of(judged(0.01, 0.0, 0.02), 64).needed is None


def test_as_many_samples_as_it_says_settle_it() -> None:
    def of(samples: int) -> Verdict:
        drops = np.random.default_rng(0).normal(0.0, 0.05, samples)
        drops += 0.006 - drops.mean()
        metric = find_metric(lambda outputs, sample: 0.0)
        found = accuracy(metric, Scores(float(drops.mean()), drops), Scores(0.0, np.zeros(samples)), 0.01)
        return verdict_of(found, samples)

    few = of(100)
    assert few.standing == "straddles"
    assert few.needed is not None
    assert of(int(1.3 * few.needed)).standing == "held"


def test_the_report_gets_verdict_count_and_note() -> None:
    found = stated(judged(0.005, -0.005, 0.015), 64, done="The plan was kept.")
    assert (found.samples, found.verdict, found.drop) == (64, "straddles", 0.005)
    assert found.note.endswith("The plan was kept.")


SITES = tuple(Site(f"n{i}", "MatMul") for i in range(4))
SPACE = Space({s: (Option(Float(), 1.0, 4, 0.0), Option(Weight8(), 0.5, 1, 0.1 * i)) for i, s in enumerate(SITES)})
PLAN = Plan(dict.fromkeys(SITES, Weight8()))


def by_size(plan: Plan) -> Verdict:
    """Every changed site costs 0.002, known to within 0.005: three hold, four straddle."""
    drop = 0.002 * len(plan.choices)
    half = 0.0035 * bool(plan.choices)
    return verdict_of(judged(drop, drop - half, drop + half), 64)


def test_a_safer_plan_is_taken_where_it_is_nearly_as_fast() -> None:
    assert by_size(PLAN).standing == "straddles"
    settled = prefer_safer(PLAN, SPACE, by_size, lambda safer, plan: 1.02)
    assert set(settled.plan.choices) == set(SITES[:3])
    assert [revert.site for revert in settled.reverted] == [SITES[3]]
    assert settled.verdict.standing == "held"
    assert "1.02x" in settled.done


def test_a_safer_plan_that_is_slower_is_not_taken_and_the_report_says_so() -> None:
    settled = prefer_safer(PLAN, SPACE, by_size, lambda safer, plan: 1.2)
    assert settled.plan is PLAN
    assert settled.reverted == ()
    assert settled.verdict.standing == "straddles"
    assert "kept" in settled.done
    assert "1.20x" in settled.done


def test_a_plan_that_holds_is_left_alone() -> None:
    plan = Plan(dict.fromkeys(SITES[:2], Weight8()))
    settled = prefer_safer(plan, SPACE, by_size, lambda safer, plan: pytest.fail("no plan needs the clock"))
    assert (settled.plan, settled.done) == (plan, "")
