"""Kernels measured for as long as the user gives, where it pays most: share of the time times what may be won of it.

Every kernel starts with what is built without tuning, or with what the database knows; its other candidates are tried
from the best estimated on, some at a time, against the fastest so far. What is found is stored at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lwc.backends.tvm.database import Record
from lwc.backends.tvm.kernels import work
from lwc.backends.tvm.tasks import Task
from lwc.backends.tvm.tuned import numbers
from lwc.compiler.core.progress import Progress

# A challenger must be faster by this much, twice: the clock's noise between equal kernels is 1 %.
MARGIN = 0.02
MOST_HOPE, LEAST_HOPE = 0.5, 0.02
DECAY = 0.6  # of what is hoped for, with every race that was for nothing


class Racer(Protocol):
    """Times candidates against each other."""

    @property
    def width(self) -> int:
        """Challengers that one race should have."""
        ...

    def race(self, signature: Any, candidates: Sequence[Any]) -> list[float | None]:
        """Seconds of each; None for those that fail, or compute something else than the first."""
        ...


@dataclass(frozen=True)
class Gain:
    """seconds_before, seconds_after: of all kernels in one run;  tried: candidates that were measured"""

    seconds_before: float
    seconds_after: float
    tried: int
    interrupted: bool = False

    @property
    def speedup(self) -> float:
        return self.seconds_before / self.seconds_after if self.seconds_after else 1.0


@dataclass
class _State:
    """A kernel while it is tuned.

    before, seconds: of what was chosen without tuning and of the fastest so far;  left: candidates in turn
    scale: the database's time of what was chosen, over the time here: machines are busier at times
    hope: the part of its time that may be won
    """

    task: Task
    best: Any
    before: float
    seconds: float
    left: list[Any]
    scale: float = 1.0
    hope: float = MOST_HOPE

    @property
    def promise(self) -> float:
        return self.task.count * self.seconds * self.hope


class Tuner:
    """One run over the kernels of one or more models."""

    def __init__(
        self, racer: Racer, place: str, known: Callable[[str], Record | None], store: Callable[[Record], None],
        progress: Progress, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """place: of records;  known: what the database has of a signature;  store: adds to it"""
        self._racer, self._place, self._known, self._store = racer, place, known, store
        self._progress, self._clock = progress, clock
        self._states: list[_State] = []
        self._tried = 0
        self._shown, self._bar = "", 0

    def tune(self, tasks: Sequence[Task], seconds: float) -> Gain:
        """Measure until the time is over or nothing is left. Ctrl-C ends it and keeps what was found."""
        start, interrupted = self._clock(), False
        self._show(0.0, seconds)
        try:
            for step in self._steps(tasks):
                step()
                elapsed = self._clock() - start
                self._show(elapsed, seconds)
                if elapsed >= seconds:
                    break
        except KeyboardInterrupt:
            interrupted = True
        return self._gain(interrupted)

    def _show(self, elapsed: float, seconds: float) -> None:
        """The bar is the time; another one is opened when the gain in its title changes."""
        title = f"Tuning kernels: {self._gain(False).speedup:.2f}x as fast"
        if title != self._shown:
            self._progress.stage(title, max(1, round(seconds)))
            self._shown, self._bar = title, 0
        self._progress.advance(int(elapsed) - self._bar)
        self._bar = int(elapsed)

    def _steps(self, tasks: Sequence[Task]) -> Any:
        """What to do next, as long as there is something."""
        for task in sorted(tasks, key=lambda task: -task.count * work(task.signature)):
            yield lambda task=task: self._start(task)
        self._hope()
        while any(state.left for state in self._states):
            yield lambda: self._race(max((s for s in self._states if s.left), key=lambda s: s.promise))

    def _start(self, task: Task) -> None:
        """What the kernel takes as it would be built now."""
        record = self._known(repr(task.signature))
        (seconds,) = self._racer.race(task.signature, [task.chosen])
        if seconds is None:
            return
        tried, scale = 0, 1.0
        if record is not None and record.choice == numbers(task.chosen):
            tried, scale = record.tried, record.seconds / seconds
        left = [each for each in task.candidates[tried:] if each != task.chosen]
        self._states.append(_State(task, task.chosen, seconds, seconds, left, scale))

    def _hope(self) -> None:
        """At first it is what a kernel takes longer than the best one would for as many multiplications."""
        rates = [work(state.task.signature) / state.seconds for state in self._states]
        for state, rate in zip(self._states, rates, strict=True):
            state.hope = min(MOST_HOPE, max(LEAST_HOPE, 1 - rate / max(rates)))

    def _race(self, state: _State) -> None:
        """The next candidates against the fastest so far; the winner once more, as the luckiest looks fast too."""
        challengers, state.left = state.left[: self._racer.width], state.left[self._racer.width :]
        ratios = self._ratios(state, challengers)
        self._tried += len(challengers)
        state.hope *= DECAY
        if ratios and min(ratios.values()) < 1 - MARGIN:
            winner = min(ratios, key=lambda each: ratios[each])
            again = self._ratios(state, [winner]).get(winner, 1.0)
            if again < 1 - MARGIN:
                state.best, state.seconds = winner, state.seconds * again
                state.hope = max(state.hope, 1 - again)
        self._store(self._record(state))

    def _ratios(self, state: _State, challengers: Sequence[Any]) -> dict[Any, float]:
        """Time of each against the fastest so far, without those that fail."""
        own, *others = self._racer.race(state.task.signature, [state.best, *challengers])
        if own is None:
            return {}
        return {each: time / own for each, time in zip(challengers, others, strict=True) if time is not None}

    def _record(self, state: _State) -> Record:
        tried = len(state.task.candidates) - len(state.left)
        seconds = state.seconds * state.scale
        return Record(self._place, repr(state.task.signature), numbers(state.best), seconds, tried)

    def _gain(self, interrupted: bool) -> Gain:
        before = sum(state.task.count * state.before for state in self._states)
        after = sum(state.task.count * state.seconds for state in self._states)
        return Gain(before, after, self._tried, interrupted)
