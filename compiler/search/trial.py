"""A runtime in a process of its own: some runtimes end the process on graphs that they took.

What search asks of such a runtime is done there, each model compiled once for all of it. A model that ends the
process has crashed; the process starts again for the next one. It is started as a command, not by multiprocessing,
which would run the user's script again.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lwc import backends
from lwc.compiler.core.backend import Array, Backend, Feeds, Port, Session
from lwc.compiler.core.child import end
from lwc.compiler.core.errors import InternalError, LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.core.target import Target
from lwc.compiler.measure import latency
from lwc.compiler.search.clock import time_ratio

log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
COMMAND = "import sys; sys.path[:] = {path}; from lwc.compiler.search.trial import serve; serve()"

T = TypeVar("T")


class Crashed(LwcError):
    """A model ended the process that it ran in."""


class Trials:
    """Sessions of one runtime in one child process, which is started when it is needed and again when it has died."""

    def __init__(self, backend: Backend, target: Target) -> None:
        self._backend, self._target = backend, target
        self._child: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._open: set[int] = set()
        self._forgotten: list[int] = []

    def open(self, model: Model) -> Tried:
        """A session of the model. Raises Crashed, and whatever the runtime raises."""
        return Tried(self, model)

    def profile(self, model: Model, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """As Backend.profile. Raises Crashed, and whatever the runtime raises."""
        with _saved(model) as path:
            return self._ask(_profile, self._backend.name, path, self._target, list(feeds), runs)

    def load(self, model: Model) -> tuple[int, Sequence[Port], Sequence[Port]]:
        """Number, inputs and outputs of a new session in the child. Raises Crashed, and whatever the runtime raises."""
        number = next(self._numbers)
        with _saved(model) as path:
            inputs, outputs = self._ask(_load, number, self._backend.name, path, self._target)
        self._open.add(number)
        return number, inputs, outputs

    def use(self, function: Callable[..., T], sessions: Sequence[Tried], *arguments: object) -> T:
        """What the function gives for the numbers of the sessions and the arguments, in the child."""
        for session in sessions:
            if session.number not in self._open:
                session.load()
        return self._ask(function, *(session.number for session in sessions), *arguments)

    def forget(self, number: int) -> None:
        """Close the session with the next request."""
        self._forgotten.append(number)

    def close(self) -> None:
        """End the process and all sessions in it."""
        self._open.clear()
        child, self._child = self._child, None
        if child is not None:
            end(child)

    def _ask(self, function: Callable[..., T], *arguments: object) -> T:
        if self._child is None:
            self._child = _start()
            weakref.finalize(self, end, self._child)
        forgotten, self._forgotten = self._forgotten, []
        self._open.difference_update(forgotten)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump((forgotten, function, arguments), self._child.stdin, protocol=5)
            self._child.stdin.flush()
            answer, error = pickle.load(self._child.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as died:
            self.close()
            log.info("%s ended its process", self._backend.name)
            raise Crashed(f"{self._backend.name} crashed while it ran") from died
        except BaseException:  # interrupted: what the child answers next is the answer to this request
            self.close()
            raise
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]


class Tried:
    """A session in the child; opened again there when the child has died since. A Session."""

    def __init__(self, trials: Trials, model: Model) -> None:
        self._trials, self._model = trials, model
        self.number = -1
        self.inputs: Sequence[Port] = ()
        self.outputs: Sequence[Port] = ()
        self.load()

    def load(self) -> None:
        """Open it in the child. Raises Crashed, and whatever the runtime raises."""
        self.number, self.inputs, self.outputs = self._trials.load(self._model)
        weakref.finalize(self, self._trials.forget, self.number)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Raises Crashed, and whatever the runtime raises."""
        return self._trials.use(_run, [self], dict(feeds))

    def time_ratio(self, other: Tried, feeds: Feeds, seconds: float) -> float:
        """As search.clock.time_ratio. Raises Crashed, and whatever the runtime raises."""
        return self._trials.use(_ratio, [self, other], dict(feeds), seconds)

    def milliseconds(self, feeds: Feeds, seconds: float) -> float:
        """Median time of a run. Raises Crashed, and whatever the runtime raises."""
        return self._trials.use(_milliseconds, [self], dict(feeds), seconds)


@contextmanager
def _saved(model: Model) -> Iterator[Path]:
    with temporary_folder("trial") as folder:
        path = Path(folder) / MODEL_FILE
        model.save(path)
        yield path


def _start() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


# In the child

_sessions: dict[int, Session] = {}


def serve() -> None:
    """Answer requests until the parent is gone; Ctrl-C is the parent's. What runtimes print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            forgotten, function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for number in forgotten:
            _sessions.pop(number, None)
        pickle.dump(_answer(function, arguments), answers, protocol=5)
        answers.flush()


def _answer(function: Callable[..., object], arguments: Sequence[object]) -> tuple[object, LwcError | None]:
    try:
        return function(*arguments), None
    except LwcError as error:
        return None, error
    except Exception as error:
        log.debug("in the child", exc_info=error)
        return None, InternalError(f"{type(error).__name__}: {error}")


def _load(number: int, backend: str, path: Path, target: Target) -> tuple[list[Port], list[Port]]:
    session = backends.get(backend).session(Model.open(path), target)
    _sessions[number] = session
    return list(session.inputs), list(session.outputs)


def _run(number: int, feeds: Feeds) -> dict[str, Array]:
    return _sessions[number].run(feeds)


def _ratio(mine: int, other: int, feeds: Feeds, seconds: float) -> float:
    return time_ratio(_sessions[mine], _sessions[other], feeds, seconds)


def _profile(backend: str, path: Path, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
    return backends.get(backend).profile(Model.open(path), target, feeds, runs)


def _milliseconds(number: int, feeds: Feeds, seconds: float) -> float:
    (found,) = latency([_sessions[number]], feeds, seconds=seconds)
    return found.median_ms
