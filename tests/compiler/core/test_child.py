from __future__ import annotations

import subprocess
import sys

from lwc.compiler.core.child import end


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_ends_a_process_that_hangs() -> None:
    child = started("import time; print(flush=True); time.sleep(600)")
    assert child.stdout is not None
    child.stdout.readline()
    end(child)
    assert child.returncode not in (0, None)
    assert child.stdout.closed


def test_a_process_that_is_gone_is_ended_twice_with_what_it_did_not_read() -> None:
    child = started("")
    child.wait()
    assert child.stdin is not None
    child.stdin.write(b"unread")
    end(child)
    end(child)
    assert child.returncode == 0
    assert child.stdin.closed
