"""Prove a plan: the whole model on held-out samples and on the clock, against the input model.

Candidates are tried from the boldest to the safest: the plans, fastest first, the cleaned float model, the input
model itself. The first that holds the accuracy budget and is not slower than the input model is kept.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lwc.compiler.core.backend import OPEN_BYTES, Backend, BuildOptions, PlansMemory, Port, Session
from lwc.compiler.core.errors import InternalError, LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.report import Accuracy, Latency, LatencyPair, OutputFidelity
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.core.target import Target
from lwc.compiler.judge import Judge
from lwc.compiler.measure import latency, peak_memory
from lwc.compiler.metrics import Sample
from lwc.compiler.mix import Shapes, reach
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared
from lwc.compiler.slim import slimmed

FINAL_SECONDS = 2.0
RACE_SECONDS = 0.6  # for each candidate, to order them
# A rewritten graph is kept only if it is not slower than the input model; the clock's noise on equal graphs is 1 %.
LEAST_SPEEDUP_OF_PLAN = 1.01
LEAST_SPEEDUP_OF_CLEAN = 0.995


@dataclass(frozen=True)
class Candidate:
    """A model that could be handed out, on the runtime it was made for.

    least_speedup: below it the next candidate is tried
    shapes: of the inputs, the most frequent first, for runtimes that compile for shapes
    """

    name: str
    model: Model
    plan: Plan
    least_speedup: float
    backend: Backend
    target: Target
    shapes: Sequence[Shapes] = ()


@dataclass(frozen=True)
class Rejected:
    """A candidate that was not kept, and why."""

    name: str
    backend: str
    reason: str
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class Proof:
    """What was measured of the candidate that was kept.

    raced: median milliseconds of the best candidate of each backend, side by side; of the kept one's, its own
    times: median milliseconds of all candidates that were raced
    inputs, outputs: of its session;  activation_bytes: of one run, where its runtime plans them
    reach: for which shapes it was compiled, in one sentence; empty where all are
    """

    kept: Candidate
    latency: LatencyPair
    accuracy: Accuracy
    fidelity: dict[str, OutputFidelity]
    original_bytes: int
    compiled_bytes: int
    original_peak_mb: float | None
    compiled_peak_mb: float | None
    rejected: tuple[Rejected, ...]
    raced: Mapping[str, float]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    activation_bytes: int | None = None
    times: Sequence[tuple[Candidate, float]] = ()
    reach: str = ""


def prove(
    prepared: Prepared, judge: Judge, candidates: list[Candidate], folder: Path, options: CompileOptions
) -> Proof:
    """Build the candidates, keep the best good one and put its files into `folder`.

    For size the smallest is tried first and any speed is taken; else the fastest first.
    The last candidate is what is left when no other holds the accuracy budget and pays. Where none holds all hard
    budgets, the best is kept as if there were none.
    """
    candidates = [_asked(candidate, options) for candidate in candidates]
    with temporary_folder("build", beside=folder.parent) as aside:
        original = _build(input_candidate(prepared), Path(aside) / "original", portable=False)
        *bold, safest = candidates
        entries, failed = _build_all(bold, Path(aside), options.portable)
        times = race(entries, prepared.mix)
        last = functools.cache(lambda: _build(safest, Path(aside) / "safest", options.portable))
        turns = _turns(_ordered(entries, times, options.objective), last, options.limited)
        kept = _first_good(turns, original, entries, judge, options)
        entry, candidate = kept.entry, kept.entry.candidate
        raced = {**_best_of_each(entries, times), candidate.backend.name: kept.pair.compiled.median_ms}
        inputs, outputs = entry.session.inputs, entry.session.outputs
        for each in (original, entry, *entries):
            each.close()
        for path in entry.folder.iterdir():
            shutil.move(path, folder / path.name)
        feeds = {port.name: prepared.feeds[port.name] for port in inputs}
        before, after = _peak(original.candidate, original.folder, feeds), _peak(candidate, folder, feeds)
    return Proof(
        candidate, kept.pair, kept.accuracy, kept.fidelity, original.bytes, entry.bytes, before, after,
        (*failed, *kept.rejected), raced, inputs, outputs, _activations(candidate.backend, folder),
        [(each.candidate, ms) for each, ms in zip(entries, times, strict=True)],
        reach(candidate.backend, folder, prepared.held_out),
    )  # fmt: skip


@dataclass(frozen=True)
class _Kept:
    """The entry that is handed out, what was measured of it, and what was rejected before it on the same terms."""

    entry: _Entry
    pair: LatencyPair
    accuracy: Accuracy
    fidelity: dict[str, OutputFidelity]
    rejected: Sequence[Rejected]


def _first_good(
    turns: Iterator[tuple[_Entry, bool, bool]],
    original: _Entry,
    entries: Sequence[_Entry],
    judge: Judge,
    options: CompileOptions,
) -> _Kept:
    """The first that nothing speaks against, or the final one."""
    rejected: dict[bool, list[Rejected]] = {True: [], False: []}
    for entry, strict, final in turns:
        large = _large([original, *entries])
        if large:
            original.close()
        judged, fidelity = judge.judge(entry.session)
        pair = _compare_latency(original, entry, judge.prepared.mix)
        reason = _against(judged, pair, entry, original, options, strict=strict)
        if not reason or final:
            return _Kept(entry, pair, judged, fidelity, rejected[strict])
        lost = entry.candidate
        rejected[strict].append(Rejected(lost.name, lost.backend.name, reason, lost.plan))
        if large:
            entry.close()
    raise InternalError("No turn was the final one.")


def file_bytes(candidate: Candidate, folder: Path, options: CompileOptions) -> int:
    """Bytes of the files that `prove` would hand out; they are built beside `folder`, and go again."""
    with temporary_folder("build", beside=folder.parent) as aside:
        return _build(_asked(candidate, options), Path(aside) / "files", options.portable).bytes


def _turns(
    ordered: Sequence[_Entry], last: Callable[[], _Entry], limited: bool
) -> Iterator[tuple[_Entry, bool, bool]]:
    """Entries in the order they are tried, whether hard budgets count, and whether it is kept whatever it gives."""
    for strict in (True, False) if limited else (False,):
        yield from ((entry, strict, False) for entry in ordered)
        yield last(), strict, not strict


def race(entries: Sequence[_Entry], feeds: Sequence[Sample]) -> list[float]:
    """Median milliseconds of each, in alternating blocks; of large models one after the other."""
    if not _large(entries):
        return [found.median_ms for found in latency([e.session for e in entries], feeds, seconds=RACE_SECONDS)]
    times = []
    for entry in entries:
        times.append(latency([entry.session], feeds, seconds=RACE_SECONDS)[0].median_ms)
        entry.close()
    return times


def _large(entries: Sequence[_Entry]) -> bool:
    """Whether these are too large to be open side by side."""
    return sum(entry.bytes for entry in entries) > OPEN_BYTES


def _ordered(entries: Sequence[_Entry], times: Sequence[float], objective: str) -> list[_Entry]:
    """Candidates best first."""
    by_time = dict(zip((id(entry) for entry in entries), times, strict=True))
    if objective == "size":
        return sorted(entries, key=lambda entry: (entry.bytes, by_time[id(entry)]))
    return sorted(entries, key=lambda entry: by_time[id(entry)])


def _best_of_each(entries: Sequence[_Entry], times: Sequence[float]) -> dict[str, float]:
    best: dict[str, float] = {}
    for entry, ms in zip(entries, times, strict=True):
        name = entry.candidate.backend.name
        best[name] = min(ms, best.get(name, ms))
    return best


def _compare_latency(original: _Entry, compiled: _Entry, feeds: Sequence[Sample]) -> LatencyPair:
    """Both in alternating blocks where they fit; speedup is the ratio of the medians."""
    before: Latency
    if not _large([original, compiled]):
        before, after = latency([original.session, compiled.session], feeds, seconds=FINAL_SECONDS)
    else:
        (after,) = latency([compiled.session], feeds, seconds=FINAL_SECONDS)
        compiled.close()
        (before,) = latency([original.session], feeds, seconds=FINAL_SECONDS)
        original.close()
    return LatencyPair(before, after, before.median_ms / after.median_ms)


def _against(
    judged: Accuracy, pair: LatencyPair, entry: _Entry, original: _Entry, options: CompileOptions, *, strict: bool
) -> str:
    """Why the entry is not kept; empty when it is.  strict: hard budgets count, and speed less than they do"""
    if not judged.held:
        return f"the metric falls by {judged.drop:.4g}, more than {judged.max_drop:g}"
    if strict and (excess := options.excess(pair.compiled.median_ms, entry.bytes)):
        return excess
    any_speed = options.objective == "size" or (strict and options.excess(pair.original.median_ms, original.bytes))
    if not any_speed and pair.speedup < entry.candidate.least_speedup:
        return f"{pair.compiled.median_ms:.3f} ms against {pair.original.median_ms:.3f} ms of the input model"
    return ""


def input_candidate(prepared: Prepared) -> Candidate:
    """The input model as it came, on the reference runtime: what is always left."""
    target = prepared.reference.narrow(prepared.asked)
    return Candidate("input model", prepared.original, Plan(), 0.0, prepared.reference, target)


@dataclass
class _Entry:
    """A candidate's files, and its session from when it is asked for until it is closed. bytes: of the files"""

    candidate: Candidate
    folder: Path
    bytes: int
    _session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = self.candidate.backend.load(self.folder, self.candidate.target)
        return self._session

    def close(self) -> None:
        self._session = None


def _asked(candidate: Candidate, options: CompileOptions) -> Candidate:
    """Where size matters, the candidate without names and notes, but for the names that its plan speaks of."""
    if options.objective != "size" and options.max_size_mb is None:
        return candidate
    return replace(candidate, model=slimmed(candidate.model, {site.name for site in candidate.plan.choices}))


def _build(candidate: Candidate, folder: Path, portable: bool) -> _Entry:
    folder.mkdir()
    candidate.backend.build(candidate.model, candidate.target, BuildOptions(folder, portable, shapes=candidate.shapes))
    return _Entry(candidate, folder, sum(path.stat().st_size for path in folder.iterdir()))


def _activations(backend: Backend, folder: Path) -> int | None:
    return backend.activation_bytes(folder) if isinstance(backend, PlansMemory) else None


def _build_all(candidates: Sequence[Candidate], folder: Path, portable: bool) -> tuple[list[_Entry], list[Rejected]]:
    """The candidates that can be built, and why others cannot. Raises the last reason when none can."""
    entries: list[_Entry] = []
    failed: list[Rejected] = []
    for k, candidate in enumerate(candidates):
        try:
            entries.append(_build(candidate, folder / str(k), portable))
        except LwcError as error:
            if k == len(candidates) - 1 and not entries:
                raise
            failed.append(Rejected(candidate.name, candidate.backend.name, error.message, candidate.plan))
    return entries, failed


def _peak(candidate: Candidate, folder: Path, feeds: Sample) -> float | None:
    return peak_memory(functools.partial(candidate.backend.load, folder, candidate.target), feeds)
