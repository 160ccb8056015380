"""A process that builds and runs kernels: one that crashes or hangs costs its candidate, not the compile.

It is started as a command, not by multiprocessing, which would run the user's script again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from lwc.backends.tvm.environment import THREADS_VARIABLE, tiles_allowed
from lwc.compiler.core.child import end

COMMAND = "import sys; sys.path[:] = {path}; from lwc.backends.tvm.worker import serve; serve()"


class Died(Exception):
    """The process ended, or was ended because it took too long."""


class Worker:
    """One process, started with the first request and again with the next one after it has died."""

    def __init__(self, threads: int) -> None:
        """threads: of its kernels"""
        self._threads = threads
        self._child: subprocess.Popen[bytes] | None = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Ask for what the function gives; one request at a time."""
        if self._child is None:
            environment = {**os.environ, "PYTHONWARNINGS": "ignore", THREADS_VARIABLE: str(self._threads)}
            self._child = subprocess.Popen(
                [sys.executable, "-c", COMMAND.format(path=sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
            weakref.finalize(self, end, self._child)
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # `result` finds out that it is gone
            pickle.dump((function, arguments), self._child.stdin, protocol=5)
            self._child.stdin.flush()

    def result(self, seconds: float) -> Any:
        """The answer to what was submitted. Raises Died, after `seconds` too."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            return pickle.load(child.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self.close()
            raise Died from error
        except BaseException:  # interrupted: what it answers next would be taken for the answer to another request
            self.close()
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            end(child)


def serve() -> None:
    """In the process: answer requests until the parent is gone. Ctrl-C is the parent's; what TVM prints is dropped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tiles_allowed()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(function(*arguments), answers, protocol=5)
        answers.flush()
