"""Tuning on other machines: a tracker and servers of TVM's, here on this one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("tvm")
pytest.importorskip("tornado")

from lwc.backends.tvm import remote
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.remote import Remote, Tracker
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.target import NAMED, host

CONV = Conv(1, 6, 6, 8, 6, 6, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1)
TILES = [Tile(2, 1, 8), Tile(3, 2, 8), Tile(3, 1, 8)]
START_SECONDS = 60


def test_an_address_names_host_port_and_key() -> None:
    assert Tracker.of("rpc://board.local:9190/arm64") == Tracker("board.local", 9190, "arm64")


@pytest.mark.parametrize("address", ["board:9190/arm", "rpc://board/arm", "rpc://board:x/arm", "rpc://board:1", ""])
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="rpc://HOST:PORT/KEY"):
        Tracker.of(address)


def test_a_tracker_that_does_not_answer_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
        Tracker("127.0.0.1", port, "any").devices()


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tvm.exec.{module}", "--host", "127.0.0.1", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture
def devices() -> Iterator[tuple[Tracker, list[subprocess.Popen[bytes]]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tracker = Tracker("127.0.0.1", port, "device")
    running = [start("rpc_tracker", "--port", str(port), "--port-end", str(port + 1))]
    try:
        wait_for(tracker, 0)
        running += [start("rpc_server", "--tracker", f"127.0.0.1:{port}", "--key", "device") for _ in range(2)]
        wait_for(tracker, 2)
        yield tracker, running[1:]
    finally:
        for process in running:
            if process.poll() is None:
                kill(process)


def wait_for(tracker: Tracker, count: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if tracker.devices() >= count:
                return
        except UsageError as error:
            if not count and "no free device" in error.message:
                return
        time.sleep(0.3)
    pytest.fail("the servers did not start")


def kill(process: subprocess.Popen[bytes]) -> None:
    """With the processes that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not {"avx2", "fma"} <= host().features, reason="code for AVX2")
def test_the_work_of_a_device_that_dies_is_done_by_another(
    devices: tuple[Tracker, list[subprocess.Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, servers = devices
    racer = Remote(Machine.of(NAMED["cpu:x86-64-v3"]), tracker)
    assert racer.width == 6
    found: list[list[float | None]] = []
    race = threading.Thread(target=lambda: found.append(racer.race(CONV, TILES)))
    race.start()
    while race.is_alive() and free(tracker) == 2:
        time.sleep(0.01)
    kill(servers[0])
    race.join()
    assert len(found[0]) == 3
    assert all(found[0])
    kill(servers[1])
    monkeypatch.setattr(remote, "HEAT_SECONDS", 3.0)
    with pytest.raises(UsageError, match="is left"):
        racer.race(CONV, TILES)


def free(tracker: Tracker) -> int:
    try:
        return tracker.devices()
    except UsageError:
        return 0
