"""Keep C code off the streams: stdout belongs to the report, stderr to progress and errors."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = 1
STDERR = 2


@contextmanager
def silent(descriptor: int) -> Iterator[None]:
    """What the process writes to STDOUT or STDERR meanwhile, past Python's own stream, is dropped.

    HiGHS in SciPy 1.17.1 prints "transformNewIntegerFeasibleSolution tmpSolver.run();" with printf at some solutions,
    whatever its options say; TVM 0.27 warns on stderr of each operator it lowers. C keeps such text in a buffer, so it
    is flushed before the descriptor is put back.
    """
    try:
        kept = os.dup(descriptor)
    except OSError:  # a process without it
        yield
        return
    stream = {STDOUT: sys.stdout, STDERR: sys.stderr}[descriptor]
    if stream is not None:
        stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
        os.dup2(kept, descriptor)
        os.close(nowhere)
        os.close(kept)
