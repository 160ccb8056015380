"""What must be asked of the system before kernels run: the size of TVM's thread pool, and the use of AMX tiles.

The pool takes half the cores unless told before TVM is imported, and is sized once per process: all sessions of one
process share the count that it was loaded with. So it is with how often its threads look for work before they sleep.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache

THREADS_VARIABLE = "TVM_NUM_THREADS"
LOOKS_VARIABLE = "TVM_THREAD_POOL_SPIN_COUNT"
# Some milliseconds: longer than from one kernel to the next. TVM's own 300000 are some 0.1 s, which another runtime's
# threads, or those of the next session that is timed, would have to share the cores for.
LOOKS = 20000
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), from the kernel's Documentation/arch/x86/xstate.rst
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def prepare() -> None:
    """Let the pool have all cores that this process may use, for as long as it has work; what the user set is kept."""
    if "tvm" not in sys.modules:
        os.environ.setdefault(THREADS_VARIABLE, str(usable_cores()))
        os.environ.setdefault(LOOKS_VARIABLE, str(LOOKS))


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@lru_cache(maxsize=1)
def tiles_allowed() -> bool:
    """Ask Linux to let this process use AMX tiles; whether it does."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)
