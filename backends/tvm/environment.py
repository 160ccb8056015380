"""TVM's thread pool: it takes half the cores unless told before it is loaded, so this is asked before TVM is imported.

The pool is sized once per process: all sessions of one process share the count that it was loaded with.
"""

from __future__ import annotations

import os
import sys

THREADS_VARIABLE = "TVM_NUM_THREADS"


def prepare() -> None:
    """Let the pool have all cores that this process may use; a count that the user has set is kept."""
    if "tvm" not in sys.modules:
        os.environ.setdefault(THREADS_VARIABLE, str(usable_cores()))


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
