import functools
import importlib
import time
from pathlib import Path

import numpy as np
import pytest

from lwc.compiler.core.backend import Feeds
from lwc.compiler.measure import FidelityMeter, accuracy, latency, peak_memory, representative, score, sqnr_db
from lwc.compiler.metrics import Metric, find_metric


class Sleeper:
    """A session whose run takes a known time."""

    inputs = ()
    outputs = ()

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        time.sleep(self.ms / 1e3)
        return {}


def test_latency_keeps_the_order_of_sessions_and_counts_runs() -> None:
    slow, fast = latency([Sleeper(8), Sleeper(1)], {}, seconds=0.3, min_blocks=2)
    assert slow.median_ms > fast.median_ms
    assert slow.p90_ms >= slow.median_ms >= 8
    assert fast.n > slow.n >= 2


class Scaled(Sleeper):
    """Sleeps as long as its sample says."""

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        time.sleep(float(feeds["ms"]) / 1e3)
        return {}


def test_of_several_samples_latency_is_the_mean_and_none_is_left_out() -> None:
    (found,) = latency([Scaled(0)], [{"ms": np.array(ms)} for ms in (1, 1, 1, 200)], seconds=0.01, min_blocks=1)
    assert found.median_ms > 50
    assert found.n >= 4


class Disturbed(Sleeper):
    """Takes another time for as long as threads of the session that ran before it look for work."""

    last: tuple[object, float] = (None, 0.0)  # who ran last, and when one that ran before ended

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        who, ended = Disturbed.last
        if who is not self:
            Disturbed.last = self, time.perf_counter()
        elif time.perf_counter() > ended + 0.012:
            return super().run(feeds)
        time.sleep(0.001)
        return {}


def test_runs_beside_threads_that_still_look_for_work_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwc.compiler.measure.BLOCK_S", 0.04)
    found = latency([Disturbed(4), Disturbed(4)], {}, seconds=0.1, min_blocks=2)
    assert all(each.median_ms >= 4 for each in found)


def test_peak_memory_sees_what_a_session_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ballast.py").write_text(BALLAST)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ballast = importlib.import_module("ballast")
    small = peak_memory(functools.partial(ballast.Session, 1), {})
    large = peak_memory(functools.partial(ballast.Session, 300), {})
    assert small is not None
    assert large is not None
    assert 250 < large - small < 400


BALLAST = """
import numpy as np

class Session:
    def __init__(self, megabytes):
        self.held = np.ones(megabytes * 125_000)

    def run(self, feeds):
        return {}
"""


def mean_metric() -> Metric:
    return find_metric(lambda outputs, sample: float(outputs["y"][0]))


def scores(values: list[float]):  # type: ignore[no-untyped-def]
    outputs = [{"y": np.array([value])} for value in values]
    return score(mean_metric(), outputs, [{}] * len(values), lambda i: {})


def test_accuracy_interval_is_that_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=400)
    after = before - 0.05 + 0.01 * rng.normal(size=400)
    result = accuracy(mean_metric(), scores(list(before)), scores(list(after)), 0.1)
    low, high = result.interval95
    assert result.held
    assert low < result.drop < high
    assert high - low < 0.004  # unpaired it would be 0.2


def test_accuracy_over_the_budget_is_not_held() -> None:
    assert not accuracy(mean_metric(), scores([1.0, 1.0]), scores([0.9, 1.0]), 0.04).held


class Spread:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, outputs: dict[str, np.ndarray], sample: object) -> None:
        self.seen.append(float(outputs["y"][0]))

    def compute(self) -> float:
        return max(self.seen) - min(self.seen)


def test_a_streaming_metric_is_resampled_as_a_whole() -> None:
    metric = find_metric(Spread)
    outputs = [{"y": np.array([float(v)])} for v in range(20)]
    halves = [{"y": out["y"] / 2} for out in outputs]
    before = score(metric, outputs, [{}] * 20, lambda i: {})
    after = score(metric, halves, [{}] * 20, lambda i: {})
    result = accuracy(metric, before, after, 1.0)
    assert result.drop == pytest.approx(9.5)
    assert result.interval95[0] <= 9.5 <= result.interval95[1] + 1e-9


def test_fidelity_meter_adds_samples_up() -> None:
    meter = FidelityMeter()
    for k in range(3):
        want = np.full(4, float(k + 1))
        meter.update({"y": want}, {"y": want + 0.1})
    result = meter.result()["y"]
    assert result.max_abs == pytest.approx(0.1)
    assert result.sqnr_db == pytest.approx(10 * np.log10(4 * (1 + 4 + 9) / (12 * 0.01)))


def test_equal_outputs_have_the_largest_signal_to_noise_ratio() -> None:
    assert sqnr_db(1.0, 0.0) == 200.0
    assert sqnr_db(0.0, 1.0) == 0.0


def test_representative_sample_has_the_median_size() -> None:
    samples = [{"x": np.zeros(n), "label": np.zeros(100 - n)} for n in (5, 1, 9, 3, 7)]
    assert representative(samples, ["x"])["x"].size == 5


def test_fidelity_is_that_of_what_is_finite_in_the_original() -> None:
    meter = FidelityMeter()
    with np.errstate(all="raise"):
        meter.update({"y": np.array([3.0, np.inf, np.nan])}, {"y": np.array([3.5, np.inf, 1.0])})
        result = meter.result()["y"]
    assert (result.max_abs, result.cosine) == (0.5, 1.0)
    assert result.sqnr_db == pytest.approx(10 * np.log10(9 / 0.25))
