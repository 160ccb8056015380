"""Temporary files and folders, named after the process that makes them; what killed processes left is removed.

    lwc-weights-4f1c02aa.1234-x8_k2f     what for, where, process, and letters that nobody else has

A process that ends, by Ctrl-C or SIGTERM too, removes its own. After SIGKILL, or when memory ran out, the next process
that makes one in the same folder does. Elsewhere than on POSIX nothing is removed: processes cannot be asked for there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

_NAME = re.compile(r"\.?lwc-[a-z]+-(?P<place>[0-9a-f]{8})\.(?P<process>[0-9]+)-.+")


def temporary_folder(purpose: str, beside: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A new folder that goes with this object. purpose: lower-case letters;  beside: hidden in this folder"""
    return tempfile.TemporaryDirectory(prefix=_prefix(purpose, beside), dir=beside)


def temporary_file(purpose: str) -> tuple[int, Path]:
    """A new file, open to write, and its path; the caller removes it."""
    handle, name = tempfile.mkstemp(prefix=_prefix(purpose, None))
    return handle, Path(name)


def _prefix(purpose: str, beside: Path | None) -> str:
    remove_orphans(Path(tempfile.gettempdir()) if beside is None else beside.absolute())
    return f"{'' if beside is None else '.'}lwc-{purpose}-{_place()}.{os.getpid()}-"


@functools.cache
def remove_orphans(folder: Path) -> None:
    """Remove what processes of this machine that have ended left there; once in the life of this one."""
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder) if os.name == "posix" else []
    for path in map(folder.joinpath, names):
        name = _NAME.fullmatch(path.name)
        if name is None or name["place"] != _place() or _is_alive(int(name["process"])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@functools.lru_cache(maxsize=1)
def _place() -> str:
    """Eight hexadecimal digits for where numbers of processes mean the same: machine and, on Linux, container."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.blake2b(f"{platform.node()} {space}".encode(), digest_size=4).hexdigest()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
