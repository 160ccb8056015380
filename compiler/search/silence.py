"""Keep C code off stdout, which belongs to the report."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_stdout() -> Iterator[None]:
    """What the process writes to file descriptor 1 meanwhile, past Python's own stream, is dropped.

    HiGHS in SciPy 1.17.1 prints "transformNewIntegerFeasibleSolution tmpSolver.run();" with printf at some solutions,
    whatever its options say. C keeps such text in a buffer, so it is flushed before the descriptor is put back.
    """
    try:
        kept = os.dup(1)
    except OSError:  # a process without stdout
        yield
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
