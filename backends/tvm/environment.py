"""What must be asked of the system before kernels run: the size of TVM's thread pool, and the use of AMX tiles.

The pool takes half the cores unless told before TVM is imported, and is sized once per process: all sessions of one
process share the count that it was loaded with.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache

THREADS_VARIABLE = "TVM_NUM_THREADS"
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), from the kernel's Documentation/arch/x86/xstate.rst
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def prepare() -> None:
    """Let the pool have all cores that this process may use; a count that the user has set is kept."""
    if "tvm" not in sys.modules:
        os.environ.setdefault(THREADS_VARIABLE, str(usable_cores()))


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@lru_cache(maxsize=1)
def tiles_allowed() -> bool:
    """Ask Linux to let this process use AMX tiles; whether it does."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)
