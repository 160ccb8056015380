"""Candidates timed on other machines, several at a time: built here, sent through TVM's RPC tracker.

Every heat borrows a device for as long as it takes. One that dies with it is not handed out again by the tracker: its
heat is run again on another one, and there is one device less.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import rpc

from lwc.backends.tvm.kernels import NAME, agree, build, operands
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.toolchain import find_toolchain
from lwc.backends.tvm.worker import Died, Worker
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.scratch import temporary_folder

ADDRESS = re.compile(r"rpc://(?P<host>[^/:]+):(?P<port>\d+)/(?P<key>[^/]+)")
HEAT_SECONDS = 120.0  # after which a device counts as dead
ANSWER_SECONDS = 5.0
ROUNDS, ROUND_MS = 10, 5


@dataclass(frozen=True)
class Tracker:
    """Where devices of one kind are asked for."""

    host: str
    port: int
    key: str

    @staticmethod
    def of(address: str) -> Tracker:
        """From rpc://HOST:PORT/KEY. Raises UsageError."""
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise UsageError(f"'{address}' is no address of a tuner.", "Write rpc://HOST:PORT/KEY.")
        return Tracker(found["host"], int(found["port"]), found["key"])

    def devices(self) -> int:
        """How many are free. Raises UsageError when there is none, or no tracker."""
        try:
            # TVM itself would try for a minute.
            socket.create_connection((self.host, self.port), ANSWER_SECONDS).close()
            queue = rpc.connect_tracker(self.host, self.port).summary()["queue_info"]
        except (OSError, RuntimeError) as error:
            raise UsageError(f"No tracker answers at {self.host}:{self.port} ({error}).") from error
        count = int(queue.get(self.key, {}).get("free", 0))
        if not count:
            raise UsageError(f"The tracker at {self.host}:{self.port} has no free device '{self.key}'.")
        return count


class Remote:
    """Races on the devices of a tracker."""

    def __init__(self, machine: Machine, tracker: Tracker) -> None:
        """Raises UsageError when there is no device, MissingDependency without a compiler that links for it."""
        find_toolchain(machine.triple)
        self._machine, self._tracker = machine, tracker
        self._workers = [Worker(1) for _ in range(tracker.devices())]

    @property
    def width(self) -> int:
        """Challengers that one race should have."""
        return 3 * len(self._workers)

    def race(self, signature: Any, candidates: Sequence[Any]) -> list[float | None]:
        """Seconds of each candidate; None for those that fail, or compute something else than the first.

        Raises UsageError when no device is left.
        """
        first, *others = candidates
        count = max(1, min(len(self._workers), len(others)))
        waiting = [[first, *others[k::count]] for k in range(count)]
        times: dict[Any, float | None] = {}
        while waiting:
            running = list(zip(list(self._workers), waiting, strict=False))
            waiting = waiting[len(running) :]
            for worker, heat in running:
                worker.submit(_race, signature, heat, self._machine, self._tracker)
            for worker, heat in running:
                found = self._answer(worker)
                if found is None:
                    waiting.append(heat)
                elif found[0]:
                    scale = (times.get(first) or found[0]) / found[0]  # devices of one kind are not equally fast
                    times |= {each: seconds and seconds * scale for each, seconds in zip(heat, found, strict=True)}
        return [times.get(candidate) for candidate in candidates]

    def close(self) -> None:
        """End the processes that build."""
        for worker in self._workers:
            worker.close()

    def _answer(self, worker: Worker) -> list[float | None] | None:
        """Of a heat; None where its device has died, which is then dropped. Raises UsageError after the last one."""
        try:
            found: list[float | None] = worker.result(HEAT_SECONDS)
        except Died:
            self._workers.remove(worker)
            worker.close()
            if not self._workers:
                raise UsageError(f"No device '{self._tracker.key}' is left to tune on.") from None
            return None
        return found


# In a worker


def _race(signature: Any, candidates: Sequence[Any], machine: Machine, tracker: Tracker) -> list[float | None]:
    """Raises what TVM raises when the device is lost: that ends the process."""
    with temporary_folder("tune") as folder:
        libraries = {k: path for k, each in enumerate(candidates)
                     if (path := _linked(signature, each, machine, Path(folder) / f"k{k}.so")) is not None}  # fmt: skip
        found: list[float | None] = [None] * len(candidates)
        if 0 not in libraries:
            return found
        session = rpc.connect_tracker(tracker.host, tracker.port).request(tracker.key, session_timeout=HEAT_SECONDS)
        right = None
        for k, library in libraries.items():
            inputs, out = operands(signature, candidates[k])
            device = session.cpu()
            session.upload(str(library))
            module = session.load_module(library.name)
            tensors = [tvm.runtime.tensor(array, device) for array in (*inputs, out)]
            module[NAME](*tensors)
            result = tensors[-1].numpy()
            right = result if right is None else right
            if agree(right, result):
                timer = module.time_evaluator(NAME, device, number=1, repeat=ROUNDS, min_repeat_ms=ROUND_MS)
                found[k] = float(min(timer(*tensors).results))
        return found


def _linked(signature: Any, candidate: Any, machine: Machine, path: Path) -> Path | None:
    """The kernel as a library; None where it cannot be built."""
    inputs, _ = operands(signature, candidate)
    try:
        executable = build(signature, candidate, machine, inputs)
    except Exception:  # whatever TVM raises: this candidate is no candidate
        return None
    find_toolchain(machine.triple).link(executable, path)
    return path
