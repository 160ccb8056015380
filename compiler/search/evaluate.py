"""The workbench: builds a plan on a fork and says, measured, how fast, how accurate and how noisy it is."""

from __future__ import annotations

import logging
import math
import statistics
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lwc.compiler.core.backend import Backend, Session
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.target import Target
from lwc.compiler.data import Calibration
from lwc.compiler.measure import Scores, latency, score
from lwc.compiler.metrics import Metric, Outputs, Sample
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.trial import Trials

log = logging.getLogger(__name__)

OPEN_SESSIONS = 3
SECONDS_PER_COMPARISON = 1.2


@dataclass
class Workbench:
    """Evaluates plans of one model on one target; every answer is kept in the cache by plan digest.

    model: the cleaned float model;  apply: makes a fork with the plan applied
    samples: what search looks at (never the held-out ones);  feeds: what latency is measured on
    key: names model, calibration data, metric, runtime and machine for the cache
    trials: where a plan is run first when its runtime may crash; None: nowhere
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
            while len(self._sessions) >= OPEN_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[digest] = self.open(plan)
        self._sessions.move_to_end(digest)
        return self._sessions[digest]

    def open(self, plan: Plan) -> Session:
        """A fresh session of the plan."""
        return self.backend.session(self.apply(self.model, plan), self.target)

    def refusal(self, plan: Plan) -> str:
        """Why the runtime cannot run the plan, as a trial in another process shows; empty when it can."""
        if self.trials is None:
            return ""
        known = self.cache.get("trial", (*self.key, plan.digest()))
        if known is None:
            known = self.trials.refusal(self.apply(self.model, plan), self.feeds)
            self.cache.put("trial", (*self.key, plan.digest()), known)
        return str(known)

    def value(self, plan: Plan) -> float:
        """The metric over the search samples; -inf for a plan that cannot run."""
        if self.refusal(plan):
            return -math.inf
        return float(self._kept("value", plan.digest(), lambda: self.scores(plan).value))

    def scores(self, plan: Plan) -> Scores:
        session = self.session(plan)
        return score(self.metric, (session.run(sample) for sample in self.samples), self.samples, self.originals)

    def noise(self, plan: Plan, count: int) -> float:
        """Mean over outputs and the first `count` samples of the relative squared error; inf if it cannot run."""
        if self.refusal(plan):
            return math.inf
        return float(self._kept("noise", (plan.digest(), count), lambda: self._noise(plan, count)))

    def _noise(self, plan: Plan, count: int) -> float:
        session = self.open(plan)
        errors = [
            relative_error(self.originals(i), session.run(self.samples[i]))
            for i in range(min(count, len(self.samples)))
        ]
        return float(np.mean(errors))

    def ratio(self, plan: Plan, reference: Plan) -> float:
        """Time of the plan divided by the time of the reference, both measured side by side (median of rounds).

        Infinite for a plan that cannot run.
        """
        if plan.digest() == reference.digest():
            return 1.0
        if self.refusal(plan):
            return math.inf
        return float(self._kept("ratio", (plan.digest(), reference.digest()), lambda: self._ratio(plan, reference)))

    def _ratio(self, plan: Plan, reference: Plan) -> float:
        pair = [self.session(plan), self.session(reference)]
        ratios = []
        for _ in range(3):
            mine, other = latency(pair, self.feeds, seconds=SECONDS_PER_COMPARISON / 3, min_blocks=2)
            ratios.append(mine.median_ms / other.median_ms)
        return statistics.median(ratios)

    def _kept(self, kind: str, key: object, measure: Callable[[], float]) -> float:
        full_key = (*self.key, key)
        known = self.cache.get(kind, full_key)
        if known is None:
            known = measure()
            self.cache.put(kind, full_key, known)
        return float(known)


def relative_error(want: Outputs, got: Outputs) -> float:
    """Mean over numeric outputs of ||want - got||^2 / ||want - mean(want)||^2, at most 1e3 each."""
    errors = []
    for name, expected in want.items():
        if not (isinstance(expected, np.ndarray) and np.issubdtype(expected.dtype, np.floating)):
            continue
        found = got[name]
        if found.shape != expected.shape:
            errors.append(1.0)
            continue
        a, b = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
        finite = np.isfinite(a)
        if not finite.all():
            a, b = a[finite], b[finite]
        error, centered = a - b, a - (a.mean() if a.size else 0.0)
        noise, signal = float(error @ error), float(centered @ centered)
        if not np.isfinite(noise):
            errors.append(1e3)
        elif noise > 0.0:
            errors.append(min(1e3, noise / max(signal, 1e-12 * max(1.0, float(a @ a)))))
        else:
            errors.append(0.0)
    return float(np.mean(errors)) if errors else 0.0
