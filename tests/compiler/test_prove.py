from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lwc.compiler.core.errors import BadInput, MissingDependency
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.target import host
from lwc.compiler.metrics import Metric, find_metric
from lwc.compiler.prove import Candidate, Judge, _build_all


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


def candidate(name: str, error: Exception | None = None) -> Candidate:
    """One whose backend writes a file, or fails."""

    def build(model: object, target: object, options: Any) -> None:
        if error is not None:
            raise error
        (options.folder / "model.onnx").write_bytes(b"1234")

    backend: Any = SimpleNamespace(name="scripted", build=build)
    return Candidate(name, None, Plan(), 0.0, backend, host())  # type: ignore[arg-type]


def test_a_candidate_that_cannot_be_built_is_rejected_with_the_reason(tmp_path: Path) -> None:
    candidates = [candidate("plan", MissingDependency("no linker")), candidate("cleaned model")]
    entries, failed = _build_all(candidates, tmp_path, portable=False)
    assert [(entry.candidate.name, entry.bytes) for entry in entries] == [("cleaned model", 4)]
    assert [(one.name, one.backend, one.reason) for one in failed] == [("plan", "scripted", "no linker")]


def test_where_no_candidate_can_be_built_the_last_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="no linker"):
        _build_all([candidate("a", BadInput("x")), candidate("b", MissingDependency("no linker"))], tmp_path, False)
