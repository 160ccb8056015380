from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lwc.compiler.judge import Judge
from lwc.compiler.metrics import Metric, find_metric


class Scripted:
    """A session that gives the outputs it was told, in order."""

    inputs = outputs = ()

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)

    def run(self, feeds: object) -> dict[str, np.ndarray]:
        return {"y": np.array([next(self.values)])}


def judge(count: int, left_out: int = 0, source: str = "user") -> Judge:
    """Every sample scores what the output says; the original's is always 1."""
    originals = [{"y": np.array([1.0])}] * count
    metric: Metric = find_metric(lambda outputs, sample: float(outputs["y"][0]))
    prepared: Any = SimpleNamespace(
        metric=metric,
        held_out=[{}] * count,
        originals={"held_out": originals},
        calibration=SimpleNamespace(store=range(count + left_out), fingerprints=range(count), source=source),
    )
    return Judge(prepared, 0.01, 0)


def scores(wrong: int, count: int) -> list[float]:
    return [0.0] * wrong + [1.0] * (count - wrong)


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "held"), (1, "straddles"), (60, "broken")])
def test_the_interval_is_judged_and_put_in_words(wrong: int, verdict: str) -> None:
    accuracy, _ = judge(200).judge(Scripted(scores(wrong, 200)))
    assert (accuracy.verdict, accuracy.samples) == (verdict, 200)
    assert accuracy.held == (wrong < 2)
    assert "200 held-out samples" in accuracy.note
    assert judge(200).verdict(Scripted(scores(wrong, 200))).standing == verdict


def test_samples_left_out_are_named_where_more_would_settle_it() -> None:
    straddling = scores(1, 200)
    assert "holds 50 that --samples left out" in judge(200, 50).judge(Scripted(straddling))[0].note
    assert "--samples" not in judge(200).judge(Scripted(straddling))[0].note
    assert "--samples" not in judge(200, 50, "synthetic").judge(Scripted(straddling))[0].note


def test_a_point_within_the_budget_holds_even_where_its_interval_straddles() -> None:
    assert judge(200).holds(Scripted(scores(1, 200)))
    assert not judge(200).holds(Scripted(scores(3, 200)))
