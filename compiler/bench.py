"""Latency and memory of models and artifacts, measured side by side."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwc.compiler.core.backend import Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.report import Latency
from lwc.compiler.core.target import Target, find_target
from lwc.compiler.measure import latency, peak_memory, representative
from lwc.compiler.metrics import Sample
from lwc.compiler.sources import open_samples, open_session, open_source

SAMPLES = 8  # the one of median size is measured


@dataclass(frozen=True)
class BenchRow:
    """One model. speedup: the first model's median over this one's;  peak_mb: None where unknown."""

    path: str
    latency: Latency
    speedup: float
    bytes: int | None
    peak_mb: float | None


@dataclass(frozen=True)
class Bench:
    """Rows in the order asked for. source: 'user' or 'synthetic' inputs."""

    rows: tuple[BenchRow, ...]
    threads: int
    source: str


def bench(
    paths: Sequence[Path],
    *,
    calib: object | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    target: str = "host",
    seconds: float = 2.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Bench:
    """Measure every path on the same input, in alternating blocks; memory in a fresh process each.

    seconds: time for each model. Raises BadInput when the models do not take the same inputs.
    """
    listener, place = progress or Silent(), find_target(target)
    sources = [open_source(path) for path in paths]
    sessions = [source.session(place) for source in sources]
    _same_inputs(paths, sessions)
    calibration = open_samples(sources[0], sessions[0], calib=calib, count=SAMPLES, shape=shape, seed=seed)
    feeds = representative(calibration, [port.name for port in sessions[0].inputs])
    listener.stage("Measuring latency")
    found = latency(sessions, feeds, seconds=seconds)
    listener.stage("Measuring memory", len(paths))
    peaks = [_peak(path, place, feeds, listener) for path in paths]
    rows = tuple(
        BenchRow(source.label, one, found[0].median_ms / one.median_ms, source.bytes, peak)
        for source, one, peak in zip(sources, found, peaks, strict=True)
    )
    return Bench(rows, place.threads, calibration.source)


def _peak(path: Path, target: Target, feeds: Sample, progress: Progress) -> float | None:
    peak = peak_memory(functools.partial(open_session, path.absolute(), target), feeds)
    progress.advance()
    return peak


def _same_inputs(paths: Sequence[Path], sessions: Sequence[Session]) -> None:
    wanted = {port.name: port.dtype for port in sessions[0].inputs}
    for path, session in zip(paths, sessions, strict=True):
        given = {port.name: port.dtype for port in session.inputs}
        if given != wanted:
            names = [", ".join(f"{name} {dtype}" for name, dtype in sorted(each.items())) for each in (wanted, given)]
            raise BadInput(f"'{paths[0]}' and '{path}' do not take the same inputs: {names[0]}; {names[1]}.")
