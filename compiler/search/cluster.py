"""Losses measured on a Dask cluster: the same bytes as on one machine of its kind.

The model travels once per worker, as the files that processes of one machine would read. Work is handed out in
segments; what a worker that dies leaves undone, the scheduler gives to the others. When all are gone, and the model
with them, the rest waits a while for workers that come back or are new.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lwc._version import __version__
from lwc.compiler.core.errors import LwcError, MissingDependency, UsageError
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.search.job import Change, Job
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.workers import Measured, Task, read_job, tasks_of, until_done, write_job

log = logging.getLogger(__name__)

_SECONDS_TO_CONNECT = 10
_SECONDS_FOR_WORKERS = 30  # to come, or to come back
_GIVE_MEMORY = "Their memory may be short: give each more."


class Cluster:
    """An Evaluator on the workers of a Dask scheduler. `job.apply` must be picklable."""

    def __init__(self, job: Job, address: str) -> None:
        self._job = job
        self._address = address

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        """Segment by segment, as workers finish them.

        Raises MissingDependency (also where workers lack lwc), UsageError when no scheduler or no worker is there or
        comes back, LwcError when workers die again and again.
        """
        tasks = tasks_of(self._job, changes)
        if not tasks:
            return
        distributed = dask_distributed()
        given_up = LwcError(f"All workers of {self._address} died again and again.", _GIVE_MEMORY)

        def measure(left: Sequence[Task]) -> Iterator[tuple[Task, Measured]]:
            with _connected(distributed, self._address) as client:
                yield from self._measured_until_all_are_gone(distributed, client, left)

        yield from until_done(tasks, measure, given_up)

    def _measured_until_all_are_gone(
        self, distributed: Any, client: Any, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Measured]]:
        token = uuid.uuid4().hex
        futures: dict[Any, Task] = {}
        try:
            (files,) = client.scatter([_files(self._job)], broadcast=True, hash=False)
            sent = client.map(_measure, tasks, token=token, version=__version__, files=files, pure=False)
            futures = dict(zip(sent, tasks, strict=True))
            for future, measured in distributed.as_completed(sent, loop=client.loop, with_results=True):
                if future.cancelled():
                    raise CancelledError
                yield futures[future], measured
        except ImportError as error:
            raise MissingDependency(
                f"A worker of {self._address} cannot import what losses need ({error}).",
                f"Install lwc-compiler[cpu,cluster] {__version__} there.",
            ) from error
        except distributed.KilledWorker as error:
            raise LwcError(
                f"Workers of {self._address} died again and again on the same segment ({error}).", _GIVE_MEMORY
            ) from error
        except (CancelledError, OSError, distributed.TimeoutError) as error:
            log.warning("all workers of %s are gone, others are waited for (%s)", self._address, type(error).__name__)
        finally:
            with suppress(OSError):  # where the scheduler is gone, too
                client.cancel([*futures], force=True)
                client.run(_forget, token, on_error="ignore")


def dask_distributed() -> Any:
    """The package. Raises MissingDependency."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingDependency(
            f"A Dask cluster needs the package 'distributed', which cannot be imported ({error}).",
            "Try: pip install 'lwc-compiler[cluster]'",
        ) from error


def _connected(distributed: Any, address: str) -> Any:
    try:
        client = distributed.Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"No Dask scheduler answers at '{address}' ({error}).", "Start one with: dask scheduler"
        ) from error
    try:
        client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
    except distributed.TimeoutError as error:
        client.close()
        raise UsageError(
            f"The Dask scheduler at '{address}' has no workers.", f"Start some with: dask worker {address}"
        ) from error
    return client


def _files(job: Job) -> dict[str, bytes]:
    with temporary_folder("cluster") as folder:
        write_job(job, Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# In a worker

_lock = threading.Lock()
_known: dict[str, tuple[PartialRuns, tempfile.TemporaryDirectory[str]]] = {}


def _measure(task: Task, token: str, version: str, files: Mapping[str, bytes]) -> Measured:
    """Losses of one segment; the job stays open for the next. One at a time in each process."""
    if version != __version__:
        raise ImportError(f"lwc {version} is needed, and {__version__} is installed")
    with _lock:
        if token not in _known:
            _known[token] = _opened(files)
        return list(_known[token][0].losses(task))


def _opened(files: Mapping[str, bytes]) -> tuple[PartialRuns, tempfile.TemporaryDirectory[str]]:
    folder = temporary_folder("cluster")
    for name, data in files.items():
        (Path(folder.name) / name).write_bytes(data)
    threads = dask_distributed().get_worker().state.nthreads
    return PartialRuns(replace(read_job(Path(folder.name)), threads=threads)), folder


def _forget(token: str) -> None:
    with _lock:
        runs, folder = _known.pop(token, (None, None))
        if runs is not None and folder is not None:
            runs.close()
            folder.cleanup()
