"""Losses measured in several processes of this machine: the same bytes as in one.

The model travels once: it is written to a folder with the samples, and every process reads it when it starts. What
is handed out is a segment with the changes in it, in the order of the graph, so that each process walks on. A
process that dies takes nothing with it but its segment, which the others do again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lwc import backends
from lwc.compiler.core.backend import Array
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.search.job import Change, Job
from lwc.compiler.search.partial import PartialRuns

log = logging.getLogger(__name__)

_MODEL = "model.onnx"
_JOB = "job.pickle"
_MOST_DEATHS = 3  # in a row, without anything measured in between

Task = tuple[Change, ...]
Measured = list[tuple[Change, float]]


class Processes:
    """An Evaluator with its own processes, which end with it. `job.apply` must be picklable."""

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._workers = workers

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        """Segment by segment, as processes finish them. Raises LwcError when processes die again and again."""
        tasks = tasks_of(self._job, changes)
        workers = min(self._workers, len(tasks))
        if not workers:
            return
        with temporary_folder("workers") as folder:
            write_job(self._job, Path(folder))
            given_up = LwcError(
                f"Worker processes died {_MOST_DEATHS} times in a row while losses were measured.",
                "Memory may be short: use fewer --workers, or a smaller --max-memory.",
            )
            yield from until_done(tasks, lambda left: _measured_until_death(Path(folder), left, workers), given_up)


def until_done(
    tasks: Sequence[Task], measure: Callable[[Sequence[Task]], Iterator[tuple[Task, Measured]]], given_up: LwcError
) -> Iterator[tuple[Change, float]]:
    """All losses, where `measure` ends early when its workers die: it gets what is left again.

    Raises `given_up` where that happens again and again with nothing measured in between.
    """
    left = list(tasks)
    deaths = 0
    while left:
        before = len(left)
        for task, measured in measure(tuple(left)):
            left.remove(task)
            yield from measured
        deaths = deaths + 1 if len(left) == before else 1
        if left and deaths >= _MOST_DEATHS:
            raise given_up


def tasks_of(job: Job, changes: Sequence[Change]) -> list[Task]:
    """The changes of each segment, in the order of the graph."""
    runs = PartialRuns(job)
    by_segment: dict[int, list[Change]] = {}
    for change in changes:
        by_segment.setdefault(runs.segment_of(change), []).append(change)
    return [tuple(by_segment[index]) for index in sorted(by_segment)]


def _measured_until_death(folder: Path, tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, Measured]]:
    """What processes measure until all is done or one of them dies."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (str(folder), workers))
    children: set[BaseProcess] = set()
    try:
        futures: dict[Future[Measured], Task] = {pool.submit(_measure, task): task for task in tasks}
        children = set(multiprocessing.active_children()) - before
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        log.warning("a worker process died: %s", error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        for child in children:
            child.join()


# In a worker

_runs: PartialRuns | None = None


def _start(folder: str, workers: int) -> None:
    """Read the job; leave Ctrl-C to the parent, and do not outlive it."""
    global _runs
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _runs = PartialRuns(read_job(Path(folder), workers))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure(task: Task) -> Measured:
    assert _runs is not None
    return list(_runs.losses(task))


# A job in a folder


@dataclass(frozen=True)
class _Written:
    """A job without model, backend, samples and originals."""

    backend: str
    samples: int
    rest: Mapping[str, Any]


class _Pickles:
    """Dictionaries of arrays, read from their files each time."""

    def __init__(self, folder: Path, kind: str, count: int) -> None:
        self._paths = [_path(folder, kind, index) for index in range(count)]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int, /) -> dict[str, Array]:
        found: dict[str, Array] = pickle.loads(self._paths[index].read_bytes())
        return found


def write_job(job: Job, folder: Path) -> None:
    """Files that `read_job` makes the job of, in any process."""
    job.model.save(folder / _MODEL)
    for index in range(len(job.samples)):
        for kind, found in (("sample", job.samples[index]), ("original", job.originals(index))):
            _path(folder, kind, index).write_bytes(pickle.dumps(dict(found), protocol=5))
    rest = {
        "runs": job.runs, "sites": job.sites, "ranges": dict(job.ranges), "powers": dict(job.powers),
        "target": job.target, "apply": job.apply, "max_memory_bytes": job.max_memory_bytes, "threads": job.threads,
    }  # fmt: skip
    written = _Written(job.backend.name, len(job.samples), rest)
    (folder / _JOB).write_bytes(pickle.dumps(written, protocol=5))


def read_job(folder: Path, workers: int = 1) -> Job:
    """The job that was written. workers: so many share the machine, its threads and the memory that was allowed."""
    written: _Written = pickle.loads((folder / _JOB).read_bytes())
    originals = _Pickles(folder, "original", written.samples)
    job = Job(
        model=Model.open(folder / _MODEL),
        backend=backends.get(written.backend),
        samples=_Pickles(folder, "sample", written.samples),
        originals=originals.__getitem__,
        **written.rest,
    )
    return replace(
        job, threads=max(1, job.threads // workers), max_memory_bytes=max(1, job.max_memory_bytes // workers)
    )


def _path(folder: Path, kind: str, index: int) -> Path:
    return folder / f"{kind}-{index}.pickle"
