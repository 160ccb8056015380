"""Trials in a process of their own: some runtimes end the process on graphs that they took."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from lwc import backends
from lwc.compiler.core.backend import Backend, Feeds
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target

log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
RUNS = 3  # a runtime may look at shapes first and make its kernels later


class Trials:
    """Trials on one runtime, in one process that is started again when a model ended it."""

    def __init__(self, backend: Backend, target: Target) -> None:
        self._backend, self._target = backend, target
        self._pool: ProcessPoolExecutor | None = None

    def refusal(self, model: Model, feeds: Feeds) -> str:
        """Why the model cannot run; empty when it can."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with tempfile.TemporaryDirectory(prefix="lwc-trial-") as folder:
            path = Path(folder) / MODEL_FILE
            model.save(path)
            try:
                return self._pool.submit(_try, self._backend.name, path, self._target, dict(feeds)).result()
            except BrokenProcessPool:
                self.close()
                log.info("%s ended its process on %s", self._backend.name, model.name)
                return f"{self._backend.name} crashed while it ran"

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _try(backend: str, path: Path, target: Target, feeds: Feeds) -> str:
    try:
        session = backends.get(backend).session(Model.open(path), target)
        for _ in range(RUNS):
            session.run(feeds)
    except LwcError as error:
        return error.message
    return ""
