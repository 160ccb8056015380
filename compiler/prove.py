"""Prove a plan: the whole model on held-out samples and on the clock, against the input model.

Candidates are tried from the boldest to the safest: the plan, the cleaned float model, the input model itself.
The first that holds the accuracy budget and is not slower than the input model is kept.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwc.compiler.core.backend import BuildOptions, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.report import Accuracy, LatencyPair, OutputFidelity
from lwc.compiler.measure import FidelityMeter, Scores, accuracy, latency, peak_memory, score
from lwc.compiler.metrics import Outputs
from lwc.compiler.prepare import Prepared

FINAL_SECONDS = 2.0
# A rewritten graph is kept only if it is not slower than the input model; the clock's noise on equal graphs is 1 %.
LEAST_SPEEDUP_OF_PLAN = 1.01
LEAST_SPEEDUP_OF_CLEAN = 0.995


@dataclass(frozen=True)
class Candidate:
    """A model that could be handed out. least_speedup: below it the next candidate is tried."""

    name: str
    model: Model
    plan: Plan
    least_speedup: float


@dataclass(frozen=True)
class Proof:
    """What was measured of the candidate that was kept. rejected: (name, reason) of those before it."""

    kept: Candidate
    latency: LatencyPair
    accuracy: Accuracy
    fidelity: dict[str, OutputFidelity]
    original_bytes: int
    compiled_bytes: int
    original_peak_mb: float | None
    compiled_peak_mb: float | None
    rejected: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Judge:
    """Scores sessions on the held-out samples against the original's outputs."""

    prepared: Prepared
    max_drop: float
    seed: int

    @functools.cached_property
    def original(self) -> Scores:
        """The original's scores, from the outputs it gave before."""
        outputs = self.prepared.originals["held_out"]
        return score(self.prepared.metric, outputs, self.prepared.held_out, outputs.__getitem__)

    def judge(self, session: Session) -> tuple[Accuracy, dict[str, OutputFidelity]]:
        """Accuracy with the 95 % interval of its drop, and fidelity per output."""
        meter = FidelityMeter()
        originals = self.prepared.originals["held_out"]
        compiled = score(
            self.prepared.metric, self._metered(session, meter), self.prepared.held_out, originals.__getitem__
        )
        return accuracy(self.prepared.metric, self.original, compiled, self.max_drop, self.seed), meter.result()

    def holds(self, session: Session) -> bool:
        """Whether the drop on the held-out samples is within the budget."""
        return self.judge(session)[0].held

    def _metered(self, session: Session, meter: FidelityMeter) -> Iterator[Outputs]:
        for original, sample in zip(self.prepared.originals["held_out"], self.prepared.held_out, strict=True):
            outputs = session.run(sample)
            meter.update(original, outputs)
            yield outputs


def prove(
    prepared: Prepared, judge: Judge, candidates: list[Candidate], folder: Path, *, any_speed: bool, portable: bool
) -> Proof:
    """Build candidates in order, keep the first good one and put its files into `folder`.

    any_speed: take the first that holds the accuracy budget, whatever its speed (objective size)
    """
    with tempfile.TemporaryDirectory(prefix=".lwc-build-", dir=folder.parent) as aside:
        original_folder, original = _built(prepared, prepared.original, Path(aside) / "original", portable=False)
        rejected: list[tuple[str, str]] = []
        for k, candidate in enumerate(candidates):
            built, session = _built(prepared, candidate.model, Path(aside) / str(k), portable)
            judged, fidelity = judge.judge(session)
            pair = compare_latency(original, session, prepared)
            last = k == len(candidates) - 1
            if not last and (reason := _against(judged, pair, candidate, any_speed)):
                rejected.append((candidate.name, reason))
                continue
            for path in built.iterdir():
                shutil.move(path, folder / path.name)
            return Proof(
                candidate,
                pair,
                judged,
                fidelity,
                _bytes(original_folder),
                _bytes(folder),
                _peak(prepared, original_folder),
                _peak(prepared, folder),
                tuple(rejected),
            )
    raise AssertionError("there is always a last candidate")


def compare_latency(original: Session, compiled: Session, prepared: Prepared) -> LatencyPair:
    """Both sessions in alternating blocks; speedup is the ratio of the medians."""
    before, after = latency([original, compiled], prepared.feeds, seconds=FINAL_SECONDS)
    return LatencyPair(before, after, before.median_ms / after.median_ms)


def _against(judged: Accuracy, pair: LatencyPair, candidate: Candidate, any_speed: bool) -> str:
    if not judged.held:
        return f"the metric falls by {judged.drop:.4g}, more than {judged.max_drop:g}"
    if not any_speed and pair.speedup < candidate.least_speedup:
        return f"{pair.compiled.median_ms:.3f} ms against {pair.original.median_ms:.3f} ms of the input model"
    return ""


def _built(prepared: Prepared, model: Model, folder: Path, portable: bool) -> tuple[Path, Session]:
    folder.mkdir()
    prepared.backend.build(model, prepared.target, BuildOptions(folder, portable))
    return folder, prepared.backend.load(folder, prepared.target)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _peak(prepared: Prepared, folder: Path) -> float | None:
    ports = prepared.backend.load(folder, prepared.target).inputs
    feeds = {port.name: prepared.feeds[port.name] for port in ports}
    return peak_memory(functools.partial(prepared.backend.load, folder, prepared.target), feeds)
