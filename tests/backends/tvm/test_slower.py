"""Which of two runtimes gets a part, from made-up times."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm import slower as module
from lwc.backends.tvm.slower import MARGIN, slower
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import find_target, host

HERE = host()


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


def model() -> Model:
    text = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2,3] x) => (float[2,3] y) { y = Exp (x) }'
    return Model.from_proto(onnx.parser.parse_model(text))


def timed(monkeypatch: pytest.MonkeyPatch, tvm_ms: float, ort_ms: float) -> list[int]:
    """Makes measurements give these; returns a list with an item for each."""
    asked = []

    def latency(sessions: Sequence[Any], feeds: Any, **_: Any) -> list[SimpleNamespace]:
        asked.append(len(sessions))
        for session in sessions:
            assert session.run(feeds)["y"].shape == (2, 3)
        return [SimpleNamespace(median_ms=tvm_ms), SimpleNamespace(median_ms=ort_ms)]

    monkeypatch.setattr(module, "latency", latency)
    return asked


def test_what_takes_longer_is_given_away_with_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 3.0, 1.0)
    assert "1 ms" in slower(model(), HERE)
    assert "3 ms" in slower(model(), HERE)


@pytest.mark.parametrize("tvm_ms", [0.2, 1.0, MARGIN])
def test_what_is_faster_or_nearly_as_fast_stays(monkeypatch: pytest.MonkeyPatch, tvm_ms: float) -> None:
    timed(monkeypatch, tvm_ms, 1.0)
    assert slower(model(), HERE) == ""


def test_the_same_part_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, 3.0, 1.0)
    assert slower(model(), HERE) == slower(model(), HERE)
    assert asked == [2]


def test_what_this_machine_cannot_run_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, 3.0, 1.0)
    assert slower(model(), find_target("cpu:aarch64")) == ""
    assert asked == []


def test_a_part_that_made_up_data_does_not_go_through_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise UnsupportedOperator("no")

    monkeypatch.setattr(module, "latency", fails)
    assert slower(model(), HERE) == ""
