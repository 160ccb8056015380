"""What lwc's environment and a peer's pass to each other: samples and outputs as .npz files, times as JSON.

Numpy alone is needed, so that peers whose requirements rule out lwc's can be measured with the same code.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Sample = Mapping[str, np.ndarray]
Run = Callable[[Sample], Mapping[str, np.ndarray]]

JOB, RESULT = "job.json", "result.json"
BLOCK_S = 0.15
SETTLE_RUNS = 2


def save_samples(path: Path, samples: Iterable[Sample]) -> Path:
    """One array for each input of each sample; returns path."""
    np.savez(path, **{f"{index:06d}|{name}": array for index, s in enumerate(samples) for name, array in s.items()})
    return path


def load_samples(path: Path) -> list[dict[str, np.ndarray]]:
    """What save_samples wrote, in its order."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as stored:
        for key in stored.files:
            index, name = key.split("|", 1)
            found.setdefault(index, {})[name] = stored[key]
    return [found[index] for index in sorted(found)]


def alternate(runs: Sequence[Run], feeds: Sample, seconds: float) -> list[float]:
    """Median milliseconds of each, run in alternating blocks as lwc.compiler.measure.latency does."""
    for run in runs:
        run(feeds)
    times: list[list[float]] = [[] for _ in runs]
    for block in range(max(4, round(seconds / BLOCK_S))):
        order = range(len(runs)) if block % 2 == 0 else reversed(range(len(runs)))
        for k in order:
            times[k] += _block(runs[k], feeds)
    return [float(np.median(series)) for series in times]


def _block(run: Run, feeds: Sample) -> list[float]:
    series: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(series) <= SETTLE_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run(feeds)
        series.append(1e3 * (time.perf_counter() - start))
    return series[SETTLE_RUNS:]


def reason(error: Exception) -> str:
    """The error on one line that fits a cell of a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".replace("|", "/")


@dataclass(frozen=True)
class Variant:
    """One way of a peer. build: (model, calibration samples, folder) -> file; open: (file, samples, threads) -> run"""

    label: str
    build: Callable[[Path, list[dict[str, np.ndarray]], Path], Path]
    open: Callable[[Path, list[dict[str, np.ndarray]], int], Run]


def work(variants: Sequence[Variant]) -> None:
    """Main function of a peer's worker: `worker.py FOLDER`, which has job.json and the samples.

    Leaves the outputs of each variant on the test samples, and result.json {label: {ms, build_s} or {failed}}. Where
    one raises, the others go on.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    job: dict[str, Any] = json.loads((folder / JOB).read_text())
    calibration, test = (load_samples(folder / f"{part}.npz") for part in ("calibration", "test"))
    result: dict[str, dict[str, Any]] = {}
    runs: dict[str, Run] = {}
    for variant in (variant for variant in variants if not job["variants"] or variant.label in job["variants"]):
        try:
            start = time.perf_counter()
            built = variant.build(Path(job["model"]), calibration, folder)
            seconds = time.perf_counter() - start
            run = variant.open(built, test, job["threads"])
            save_samples(folder / f"{variant.label}.npz", (run(sample) for sample in test))
        except Exception as error:
            traceback.print_exc()
            result[variant.label] = {"failed": reason(error)}
        else:
            runs[variant.label] = run
            result[variant.label] = {"build_s": seconds}
    medians = alternate(list(runs.values()), test[job["median"]], job["seconds"])
    for label, milliseconds in zip(runs, medians, strict=True):
        result[label]["ms"] = milliseconds
    (folder / RESULT).write_text(json.dumps(result))
