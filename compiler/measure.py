"""Latency, accuracy and memory, by the same code for every backend."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Feeds, Session
from lwc.compiler.core.report import Accuracy, Latency, OutputFidelity
from lwc.compiler.metrics import Metric, Outputs, Sample

BLOCK_S = 0.15  # shorter blocks measure the other session's spinning threads (0.82x for a model against itself)
SETTLE_S = 0.02  # runs that begin earlier in a block are not counted: the other session's threads go to sleep
LEAST_RUNS = 2  # counted in each block, however long they take
BOOTSTRAP = 1000
STREAMING_BOOTSTRAP = 200  # a streaming metric is recomputed for each resample


def latency(
    sessions: Sequence[Session], feeds: Feeds | Sequence[Feeds], *, seconds: float = 2.0, min_blocks: int = 4
) -> list[Latency]:
    """Run the sessions in alternating blocks, so that drift of the machine hits all alike.

    feeds: one sample, or several to run in turn, of which the result is the mean over samples
    seconds: time to spend on each session, or min_blocks if those take longer
    returns medians in the order of `sessions`
    """
    samples = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    for session in sessions:
        for sample in samples:
            session.run(sample)
    times = [_Turns(samples) for _ in sessions]
    order = list(range(len(sessions)))
    end, blocks = time.perf_counter() + seconds * len(sessions), 0
    while blocks < min_blocks or time.perf_counter() < end or not all(each.complete for each in times):
        for k in order:
            times[k].run_block(sessions[k])
        order.reverse()
        blocks += 1
    return [each.summary() for each in times]


class _Turns:
    """Times of one session over samples that come in turn, from block to block."""

    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._samples = samples
        self._times: list[list[float]] = [[] for _ in samples]
        self._next = 0

    @property
    def complete(self) -> bool:
        return all(self._times)

    def run_block(self, session: Session) -> None:
        counted = 0
        begin = time.perf_counter()
        while counted < LEAST_RUNS or time.perf_counter() < begin + BLOCK_S:
            at = self._next % len(self._samples)
            start = time.perf_counter()
            session.run(self._samples[at])
            if start >= begin + SETTLE_S:
                self._times[at].append(1e3 * (time.perf_counter() - start))
                counted += 1
                self._next += 1

    def summary(self) -> Latency:
        """The mean over samples of each one's median and 90th percentile."""
        median, most = (float(np.mean([np.percentile(series, q) for series in self._times])) for q in (50, 90))
        return Latency(median, most, sum(map(len, self._times)))


@dataclass(frozen=True)
class Scores:
    """What a metric says of one model over the samples.

    value: the metric;  per_sample: [samples] scores when the metric is their mean
    kept: outputs and samples when it is not, for resampling
    """

    value: float
    per_sample: NDArray[np.float64] | None = None
    kept: tuple[tuple[Outputs, Sample], ...] = ()


def score(
    metric: Metric, outputs: Iterable[Outputs], samples: Iterable[Sample], originals: Callable[[int], Outputs]
) -> Scores:
    """Score a model's outputs, one per sample and in their order.

    originals: the original model's outputs of sample i
    """
    per_sample: list[float] = []
    kept: list[tuple[Outputs, Sample]] = []
    for i, (got, sample) in enumerate(zip(outputs, samples, strict=True)):
        if metric.score:
            per_sample.append(metric.score(got, sample, originals(i)))
        else:
            kept.append((got, sample))
    if metric.score:
        values = np.asarray(per_sample)
        return Scores(float(values.mean()), values)
    return Scores(_streamed(metric, kept), None, tuple(kept))


def _streamed(metric: Metric, kept: Iterable[tuple[Outputs, Sample]]) -> float:
    assert metric.streaming is not None
    running = metric.streaming()
    for outputs, sample in kept:
        running.update(outputs, sample)
    return float(running.compute())


def accuracy(metric: Metric, original: Scores, compiled: Scores, max_drop: float, seed: int = 0) -> Accuracy:
    """The drop from original to compiled, with the 95 % interval of a paired bootstrap over samples."""
    drop = original.value - compiled.value
    return Accuracy(
        metric.name,
        original.value,
        compiled.value,
        drop,
        max_drop,
        held=bool(drop <= max_drop),
        interval95=_interval(metric, original, compiled, np.random.default_rng(seed)),
    )


def _interval(metric: Metric, original: Scores, compiled: Scores, rng: np.random.Generator) -> tuple[float, float]:
    if original.per_sample is not None and compiled.per_sample is not None:
        drops = original.per_sample - compiled.per_sample
        picks = rng.integers(0, len(drops), (BOOTSTRAP, len(drops)))
        resampled = drops[picks].mean(axis=1)
    else:
        resampled = _streaming_drops(metric, original, compiled, rng)
    if not len(resampled):
        return (math.nan, math.nan)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _streaming_drops(
    metric: Metric, original: Scores, compiled: Scores, rng: np.random.Generator
) -> NDArray[np.float64]:
    drops = []
    for _ in range(STREAMING_BOOTSTRAP):
        picks = rng.integers(0, len(original.kept), len(original.kept))
        try:
            before = _streamed(metric, (original.kept[i] for i in picks))
            after = _streamed(metric, (compiled.kept[i] for i in picks))
        except (ValueError, ZeroDivisionError):  # a resample on which the metric is undefined (one class only)
            continue
        if math.isfinite(before - after):
            drops.append(before - after)
    return np.asarray(drops)


class FidelityMeter:
    """Cosine, signal to noise and largest difference of each output, where the original is finite, over samples."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._max: dict[str, float] = {}

    def update(self, original: Outputs, compiled: Outputs) -> None:
        for name, want in original.items():
            if name not in compiled or not np.issubdtype(want.dtype, np.number):
                continue
            a, b = want.astype(np.float64).ravel(), compiled[name].astype(np.float64).ravel()
            if a.shape != b.shape:
                continue
            finite = np.isfinite(a)
            if not finite.all():
                a, b = a[finite], b[finite]
            if not a.size:
                continue
            difference = a - b
            sums = np.array([a @ b, a @ a, b @ b, difference @ difference])
            self._sums[name] = self._sums.get(name, np.zeros(4)) + sums
            self._max[name] = max(self._max.get(name, 0.0), float(np.abs(difference).max()))

    def result(self) -> dict[str, OutputFidelity]:
        fidelity = {}
        for name, (dot, aa, bb, noise) in self._sums.items():
            norm = math.sqrt(aa * bb)
            fidelity[name] = OutputFidelity(
                cosine=float(dot / norm) if norm else float(noise == 0.0),
                sqnr_db=sqnr_db(aa, noise),
                max_abs=self._max[name],
            )
        return fidelity


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise in decibel, capped at 200 for equal outputs."""
    if noise <= 0.0:
        return 200.0
    return float(min(200.0, 10.0 * math.log10(signal / noise))) if signal > 0.0 else 0.0


def representative(samples: Iterable[Sample], inputs: Sequence[str]) -> Sample:
    """The sample of median size: what latency is measured on when shapes differ."""
    sized = [(sum(int(np.asarray(sample[name]).size) for name in inputs), i) for i, sample in enumerate(samples)]
    middle = sorted(sized)[(len(sized) - 1) // 2][1]
    return next(sample for i, sample in enumerate(samples) if i == middle)


def peak_memory(load: Callable[[], Session], feeds: Mapping[str, NDArray[np.generic]], runs: int = 3) -> float | None:
    """Peak resident memory in MB of a fresh process that loads a session and runs it.

    load must be picklable. None where the platform does not tell.
    """
    payload = pickle.dumps((load, dict(feeds), runs))
    child = subprocess.run(
        [sys.executable, "-c", "from lwc.compiler.measure import _peak_child; _peak_child()"],
        input=payload,
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    text = child.stdout.decode().strip().splitlines()
    return float(text[-1]) if child.returncode == 0 and text and text[-1] != "None" else None


def _peak_child() -> None:
    load, feeds, runs = pickle.load(sys.stdin.buffer)
    session = load()
    for _ in range(runs):
        session.run(feeds)
    sys.stdout.write(f"{own_peak_mb()}\n")


def own_peak_mb() -> float | None:
    """Peak resident memory of this process so far, in MB (1e6 bytes); None where unknown.

    Linux: VmHWM; ru_maxrss would start at what the parent held when it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
