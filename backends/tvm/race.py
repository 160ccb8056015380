"""Candidates of one kernel timed against each other on this machine, in turns, in processes that stay warm.

Weights are read from several copies in turn: in a network, other layers have driven them out of the cache.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm

from lwc.backends.tvm.kernels import NAME, Array, agree, build, operands
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.worker import Died, Worker

log = logging.getLogger(__name__)

ROUNDS = 25
ROUND_SECONDS = 0.001
BUILD_SECONDS, RUN_SECONDS = 60.0, 30.0  # after which a candidate is given up
COLD_BYTES, MOST_COPIES = 16 << 20, 16


class Local:
    """Races on this machine: built side by side, run one at a time with all threads."""

    def __init__(self, machine: Machine, workers: int) -> None:
        """workers: processes that build"""
        self._machine = machine
        self._workers = [Worker(machine.cores) for _ in range(workers)]

    @property
    def width(self) -> int:
        """Challengers that one race should have."""
        return 2 * len(self._workers)

    def race(self, signature: Any, candidates: Sequence[Any]) -> list[float | None]:
        """Seconds of each candidate; None for those that fail, crash, hang or compute something else than the first."""
        first, *others = candidates
        count = len(self._workers) if others else 1
        heats = [[first, *others[k::count]] for k in range(count)]
        heats = [heat for heat in heats if len(heat) > 1 or not others]
        ready = self._built(signature, heats)
        times: dict[Any, float | None] = {}
        for worker, heat, built in zip(self._workers, heats, ready, strict=False):
            found = self._run(worker, signature, heat) if built else self._one_by_one(worker, signature, heat)
            if times.get(first) and found[0]:
                scale = times[first] / found[0]  # type: ignore[operator]
                found = [None if seconds is None else seconds * scale for seconds in found]
            times = dict(zip(heat, found, strict=True)) | {k: v for k, v in times.items() if v is not None}
        return [times.get(candidate) for candidate in candidates]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()

    def _built(self, signature: Any, heats: Sequence[Sequence[Any]]) -> list[bool]:
        pairs = list(zip(self._workers, heats, strict=False))
        for worker, heat in pairs:
            worker.submit(_build_all, signature, heat, self._machine)
        return [_answered(worker, BUILD_SECONDS * len(heat)) is not None for worker, heat in pairs]

    def _run(self, worker: Worker, signature: Any, heat: Sequence[Any]) -> list[float | None]:
        worker.submit(_race, signature, heat, self._machine)
        found = _answered(worker, RUN_SECONDS * len(heat))
        return self._one_by_one(worker, signature, heat) if found is None else found

    def _one_by_one(self, worker: Worker, signature: Any, heat: Sequence[Any]) -> list[float | None]:
        """After a crash: each against the first alone, so that one costs no other."""
        first, *others = heat
        found: list[list[float | None]] = []
        for other in others:
            worker.submit(_race, signature, [first, other], self._machine)
            found.append(_answered(worker, BUILD_SECONDS + RUN_SECONDS) or [None, None])
            if found[-1] == [None, None]:
                log.info("%s of %s crashed", other, signature)
        return [next((pair[0] for pair in found if pair[0]), None), *(pair[1] for pair in found)]


def _answered(worker: Worker, seconds: float) -> Any:
    try:
        return worker.result(seconds)
    except Died:
        return None


# In a worker


@dataclass(frozen=True)
class _Kernel:
    """A candidate that is built, with arguments in several places."""

    run: Any
    arguments: list[list[Any]]

    def result(self) -> Array:
        self.run(*self.arguments[0])
        return self.arguments[0][-1].numpy()  # type: ignore[no-any-return]

    def seconds(self, calls: int) -> float:
        places = self.arguments
        start = time.perf_counter()
        for call in range(calls):
            self.run(*places[call % len(places)])
        return (time.perf_counter() - start) / calls


_kept: dict[tuple[str, Any], _Kernel | None] = {}


def _build_all(signature: Any, candidates: Sequence[Any], machine: Machine) -> int:
    """How many are built. Those of other kernels are forgotten."""
    for key in [key for key in _kept if key[0] != repr(signature)]:
        del _kept[key]
    return sum(_kernel(signature, candidate, machine) is not None for candidate in candidates)


def _kernel(signature: Any, candidate: Any, machine: Machine) -> _Kernel | None:
    key = (repr(signature), candidate)
    if key not in _kept:
        try:
            _kept[key] = _made(signature, candidate, machine)
        except Exception:  # whatever TVM raises: this candidate is no candidate
            _kept[key] = None
    return _kept[key]


def _made(signature: Any, candidate: Any, machine: Machine) -> _Kernel:
    inputs, out = operands(signature, candidate)
    module = build(signature, candidate, machine, inputs).jit()
    weights = inputs[1:2]
    copies = min(MOST_COPIES, max(1, -(-COLD_BYTES // weights[0].nbytes))) if weights else 1
    data, *rest, result = (tvm.runtime.tensor(array) for array in (*inputs[:1], *inputs[2:], out))
    places = [[data, *map(tvm.runtime.tensor, weights), *rest, result] for _ in range(copies)]
    return _Kernel(module[NAME], places)


def _race(signature: Any, candidates: Sequence[Any], machine: Machine) -> list[float | None]:
    """Seconds of each, as `Local.race` gives them."""
    kernels = [_kernel(signature, candidate, machine) for candidate in candidates]
    if kernels[0] is None:
        return [None] * len(kernels)
    right = kernels[0].result()
    running = {k: kernel for k, kernel in enumerate(kernels) if kernel is not None and agree(right, kernel.result())}
    calls = {k: max(1, int(ROUND_SECONDS / kernel.seconds(2))) for k, kernel in running.items()}
    rounds = [{k: kernel.seconds(calls[k]) for k, kernel in running.items()} for _ in range(ROUNDS)]
    # The least of short rounds: what else the machine does only ever adds to them.
    return [min(times[k] for times in rounds) if k in running else None for k in range(len(kernels))]
