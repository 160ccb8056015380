"""Processes that answer requests through their pipes."""

from __future__ import annotations

import contextlib
import subprocess


def end(child: subprocess.Popen[bytes]) -> None:
    """End the process, which may have ended by itself, and close its pipes."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
