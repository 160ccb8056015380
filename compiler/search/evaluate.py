"""The workbench: builds a plan on a fork and says, measured, how fast, how accurate and how noisy it is."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np

from lwc.compiler.core.backend import OPEN_BYTES, Backend, Session
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.errors import BadInput, LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.target import Target
from lwc.compiler.data import Calibration
from lwc.compiler.measure import latency
from lwc.compiler.metrics import Metric, Outputs, Sample
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.clock import time_ratio
from lwc.compiler.search.relative_error import numeric, power, relative_error
from lwc.compiler.search.trial import Crashed, Trials, Tried

log = logging.getLogger(__name__)

OPEN_SESSIONS = 3
SECONDS_PER_COMPARISON = 1.2
TRIAL_RUNS = 3  # a runtime may look at shapes first and make its kernels later

T = TypeVar("T")


class Reference(Protocol):
    """What outputs are compared with, sample by sample; powers: of each output, what errors are relative to."""

    @property
    def originals(self) -> Callable[[int], Outputs]: ...
    @property
    def powers(self) -> Mapping[str, float]: ...


class Compares:
    """Whatever holds a reference."""

    def error(self: Reference, index: int, outputs: Outputs) -> float:
        """Relative squared error of the outputs of one sample: see `relative_error`."""
        return relative_error(self.originals(index), outputs, self.powers)


@dataclass
class Workbench(Compares):
    """Evaluates plans of one model on one target; every answer is kept in the cache by plan digest.

    model: the cleaned float model;  apply: makes a fork with the plan applied
    samples: what search looks at (never the held-out ones);  feeds: what latency is measured on
    key: names model, calibration data, metric, runtime and machine for the cache
    trials: where all plans are run when their runtime may crash; None: in this process
    """

    model: Model
    backend: Backend
    target: Target
    metric: Metric
    samples: Calibration
    originals: Callable[[int], Outputs]
    feeds: Sample
    apply: Applier
    cache: Cache
    key: tuple[str, ...]
    trials: Trials | None = None
    _sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict)

    def session(self, plan: Plan) -> Session:
        """A session of the plan; the last few stay open."""
        digest = plan.digest()
        if digest not in self._sessions:
            while len(self._sessions) >= self._most_open():
                self._sessions.popitem(last=False)
            self._sessions[digest] = self.open(plan)
        self._sessions.move_to_end(digest)
        return self._sessions[digest]

    def open(self, plan: Plan) -> Session:
        """A fresh session of the plan; of a large model the only one."""
        if self._most_open() == 1:
            self._sessions.clear()
        model = self.apply(self.model, plan)
        return self.backend.session(model, self.target) if self.trials is None else self.trials.open(model)

    def close(self) -> None:
        """Close all sessions."""
        self._sessions.clear()

    def _most_open(self) -> int:
        return max(1, min(OPEN_SESSIONS, OPEN_BYTES // max(1, self.model.weight_bytes())))

    def refusal(self, plan: Plan) -> str:
        """Why the runtime cannot run the plan, as a trial shows where it may crash; empty when it can."""
        if self.trials is None:
            return ""
        key = (*self.key, plan.digest())
        known = self.cache.get("trial", key)
        if known is None:
            known = ""
            try:
                session = self.session(plan)
                for _ in range(TRIAL_RUNS):
                    session.run(self.feeds)
            except LwcError as error:
                known = error.message
            self.cache.put("trial", key, known)
        return str(known)

    def weight_bytes(self, plan: Plan) -> int:
        """Bytes of all weights under the plan."""
        return self.apply(self.model, plan).weight_bytes()

    def value(self, plan: Plan) -> float:
        """The metric over the search samples; -inf for a plan that cannot run."""
        return self._if_it_runs(plan, -math.inf, lambda: self._value(plan))

    def noise(self, plan: Plan, count: int) -> float:
        """Mean over outputs and the first `count` samples of the relative squared error; inf if it cannot run.

        Relative to the power of the sample, or of the mean one where that is more: what is left of silence is no
        measure of noise.
        """
        count = min(count, len(self.samples))
        return self._if_it_runs(plan, math.inf, lambda: float(np.mean(self._read(plan, count).errors[:count])))

    def is_quiet(self, plan: Plan, most: float) -> bool:
        """Whether the noise on all samples is at most so much; a plan beyond it is run no further than that takes."""
        most *= len(self.samples)
        return self._if_it_runs(plan, False, lambda: sum(self._read(plan, len(self.samples), most).errors) <= most)

    def ratio(self, plan: Plan, reference: Plan) -> float:
        """Time of the plan divided by the time of the reference, both measured side by side.

        Infinite for a plan that cannot run.
        """
        if plan.digest() == reference.digest():
            return 1.0
        key = (*self.key, (plan.digest(), reference.digest()))
        known = self.cache.get("ratio", key)
        if known is None:
            known = self._if_it_runs(plan, math.inf, lambda: self._ratio(plan, reference))
            self.cache.put("ratio", key, known)
        return float(known)

    def _ratio(self, plan: Plan, reference: Plan) -> float:
        mine, other = self.session(plan), self.session(reference)
        if isinstance(mine, Tried) and isinstance(other, Tried):
            return mine.time_ratio(other, self.feeds, SECONDS_PER_COMPARISON)
        return time_ratio(mine, other, self.feeds, SECONDS_PER_COMPARISON)

    def milliseconds(self, plan: Plan) -> float:
        """Median time of a run."""
        session = self.session(plan)
        if isinstance(session, Tried):
            return session.milliseconds(self.feeds, 1.0)
        (found,) = latency([session], self.feeds, seconds=1.0)
        return found.median_ms

    def profile(self, plan: Plan, runs: int) -> dict[str, float] | None:
        """Milliseconds by node of the plan's model; None for a plan that cannot run."""
        key = (*self.key, plan.digest())
        known = self.cache.get("profile", key)
        if known is None:
            if self.cache.get("trial", key):
                return None
            try:
                known = self._profile(self.apply(self.model, plan), runs)
            except LwcError as error:
                if self.trials is None:
                    raise
                self.cache.put("trial", key, error.message)
                return None
            self.cache.put("profile", key, known)
        return dict(known)

    def _profile(self, model: Model, runs: int) -> dict[str, float]:
        if self.trials is not None:
            return self.trials.profile(model, [self.feeds], runs)
        return self.backend.profile(model, self.target, [self.feeds], runs)

    def _if_it_runs(self, plan: Plan, otherwise: T, measure: Callable[[], T]) -> T:
        if self.refusal(plan):
            return otherwise
        try:
            return measure()
        except Crashed as error:
            self.cache.put("trial", (*self.key, plan.digest()), error.message)
            return otherwise
        except BadInput as error:
            if not plan.choices:
                raise
            log.warning("a plan that the runtime does not take is left out: %s", error.message)
            return otherwise

    def _value(self, plan: Plan) -> float:
        value = self._read(plan, len(self.samples)).value
        assert value is not None
        return value

    def _read(self, plan: Plan, count: int, enough: float = math.inf) -> Reading:
        """What is known once the first `count` samples were looked at, or so many that errors sum up to `enough`."""
        key = (*self.key, plan.digest())
        known = self.cache.get("readings", key)
        reading = Reading() if known is None else Reading(*known)
        if reading.lacks(count, len(self.samples), enough):
            reading = self._read_on(reading, self.session(plan), count, enough)
            self.cache.put("readings", key, [reading.errors, reading.scores, reading.value])
        return reading

    @cached_property
    def powers(self) -> Mapping[str, float]:
        """Mean power of each output over the samples."""
        sums: dict[str, float] = {}
        for index in range(len(self.samples)):
            for name, output in numeric(self.originals(index)).items():
                sums[name] = sums.get(name, 0.0) + power(output)
        return {name: total / len(self.samples) for name, total in sums.items()}

    def _read_on(self, before: Reading, session: Session, count: int, enough: float) -> Reading:
        """Samples behind those that were looked at before; all anew where the metric is one of the whole set."""
        metric, whole = self.metric, len(self.samples)
        running = metric.streaming() if metric.streaming and count == whole else None
        errors, scores = ([], []) if running else ([*before.errors], [*before.scores])
        while len(errors) < count and sum(errors) <= enough:
            sample, original = self.samples[len(errors)], self.originals(len(errors))
            outputs = session.run(sample)
            errors.append(self.error(len(errors), outputs))
            if metric.score:
                scores.append(float(metric.score(outputs, sample, original)))
            if running:
                running.update(outputs, sample)
        if len(errors) < whole:
            return Reading(errors, scores)
        return Reading(errors, scores, float(running.compute()) if running else float(np.mean(scores)))


@dataclass(frozen=True)
class Reading:
    """What is known of a plan's outputs, sample by sample and in order.

    errors: relative squared errors;  scores: of a metric that is a mean over samples;  value: the metric, of all
    """

    errors: Sequence[float] = ()
    scores: Sequence[float] = ()
    value: float | None = None

    def lacks(self, count: int, whole: int, enough: float) -> bool:
        """Whether more samples have to be looked at to know of `count` of `whole` samples."""
        if sum(self.errors) > enough:
            return False
        return len(self.errors) < count or (count == whole and self.value is None)
