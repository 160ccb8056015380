"""What is asked when losses are measured: changes of one model, on some samples of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lwc.compiler.core.backend import Backend, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Range, Site
from lwc.compiler.core.target import Target
from lwc.compiler.metrics import Outputs
from lwc.compiler.search.batches import Run, Samples, find_runs
from lwc.compiler.search.evaluate import Compares, Workbench

Change = tuple[tuple[Site, Choice], ...]  # what is changed together

_RUN = 4  # of the memory for activations, the share that those of one run may take
_SESSION_IN_RUNS = 8.0  # making a session of the whole model takes about as long as so many runs of it


class Evaluator(Protocol):
    """Measures losses: in this process, in several, or on a cluster, always the same bytes."""

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        """Each change with the relative squared error of the model's outputs, in any order, as they are measured."""
        ...


@dataclass(frozen=True)
class Job(Compares):
    """All that losses are a function of, besides the change.

    model: float, as `find_runs` gave it with the runs;  sites: all there are, for they decide where it is cut
    apply: makes a fork with a plan applied;  samples: whole, in order;  originals: the input model's outputs
    powers: of each output, what errors are relative to at least
    target: sessions take one thread of it;  threads: so many run side by side
    max_memory_bytes: for activations; beyond it they lie on disk
    """

    model: Model
    runs: tuple[Run, ...]
    sites: tuple[Site, ...]
    ranges: Mapping[str, Range]
    backend: Backend
    target: Target
    apply: Callable[[Model, Plan], Model]
    samples: Samples
    originals: Callable[[int], Outputs]
    powers: Mapping[str, float]
    max_memory_bytes: int = 1_000_000_000
    threads: int = 1

    def open(self, model: Model) -> Session:
        """A session of one thread: how many there are must not show in the numbers."""
        return self.backend.session(model, self.target.with_threads(1), lean=True)

    def plan(self, change: Change) -> Plan:
        return Plan(dict(change), self.ranges)

    def sites_per_segment(self) -> int:
        """Long segments re-run more in front of the suffix they share; short ones need more sessions of suffixes.

        With n sites, S samples and k sites per segment, half a segment for each site and sample, n S (k / 2n) runs,
        and a suffix of half the model per segment, c (n / 2k) runs, are least together at k = sqrt(c n / S).
        """
        return max(1, math.ceil(math.sqrt(_SESSION_IN_RUNS * len(self.sites) / max(1, len(self.samples)))))


def job_of(
    bench: Workbench, sites: Iterable[Site], ranges: Mapping[str, Range], count: int, max_memory_bytes: int
) -> Job:
    """The job of measuring changes of the bench's model on the first `count` of its samples."""
    samples = bench.samples.take(count)
    alone = bench.target.with_threads(1)

    def lean(model: Model) -> Session:
        return bench.backend.session(model, alone, lean=True)

    model, runs = find_runs(bench.model, samples, bench.originals, lean, max_memory_bytes // _RUN)
    return Job(
        model, runs, tuple(sites), ranges, bench.backend, bench.target, bench.apply, samples, bench.originals,
        bench.powers, max_memory_bytes, bench.target.threads,
    )  # fmt: skip
