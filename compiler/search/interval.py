"""What held-out samples can say of the accuracy budget, and what is done where they cannot.

The drop is measured on samples: its 95 % interval (paired bootstrap, lwc.compiler.measure) lies within the budget,
beyond it, or straddles it. Then a safer plan is taken if it costs next to no time, else the plan is kept; the report
says which, and how many samples would settle it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from lwc.compiler.core.plan import Plan
from lwc.compiler.core.report import Accuracy
from lwc.compiler.search.revert import Revert, revert_until
from lwc.compiler.search.solve import Objective
from lwc.compiler.search.space import Space

Standing = Literal["held", "broken", "straddles"]
_GOOD = {"latency": "fast", "throughput": "fast", "size": "small"}
MOST_SLOWER = 1.03  # what a safer plan may cost in time


@dataclass(frozen=True)
class Verdict:
    """Where the 95 % interval of the drop lies.

    low, high: its ends, NaN where the metric has none;  unread: samples that the source holds beyond those used
    """

    standing: Standing
    drop: float
    low: float
    high: float
    max_drop: float
    samples: int
    unread: int = 0

    @property
    def needed(self) -> int | None:
        """How many samples would settle it at this drop: the interval shrinks with the root of their number."""
        room = abs(self.max_drop - self.drop)
        reach = self.high - self.drop if self.drop <= self.max_drop else self.drop - self.low
        if self.standing != "straddles" or not room or not math.isfinite(reach):
            return None
        return math.ceil(self.samples * max(1.0, reach / room) ** 2)

    @property
    def text(self) -> str:
        """One sentence for the report."""
        at = f"the drop of {self.drop:.4g} on {count(self.samples)}"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"{_capital(at)} has no 95 % interval: the metric is not defined on parts of the samples."
        interval = f"[{self.low:.4g}, {self.high:.4g}]"
        if self.standing == "broken":
            return f"{_capital(at)} is over the budget of {self.max_drop:g}: 95 % interval {interval}."
        if self.standing == "held":
            return (
                f"{_capital(at)} is within the budget of {self.max_drop:g}: 95 % interval {interval}.{self._unseen()}"
            )
        side = "within" if self.drop <= self.max_drop else "over"
        more = f"; some {self.needed} held-out samples would settle it" if self.needed else ""
        if self.unread:
            more += f" (the source holds {self.unread} that --samples left out)"
        return (
            f"{_capital(at)} is {side} the budget of {self.max_drop:g}, but its 95 % interval {interval} "
            f"straddles it{more}."
        )

    def _unseen(self) -> str:
        """Rule of three: an event not seen in n samples has, with 95 % confidence, a rate under 3 / n."""
        if self.low != self.high or not self.samples:
            return ""
        return f" The samples agree on it; up to {min(1.0, 3 / self.samples):.0%} of unseen ones may not."


@dataclass(frozen=True)
class Settled:
    """The plan after a straddling interval was dealt with, what was taken back, and what was done, in one sentence."""

    plan: Plan
    reverted: tuple[Revert, ...]
    verdict: Verdict
    done: str


def verdict_of(judged: Accuracy, samples: int, unread: int = 0) -> Verdict:
    """Held when the whole interval is within the budget, broken when none of it is."""
    low, high = judged.interval95
    if high <= judged.max_drop and low <= high:
        standing: Standing = "held"
    else:
        standing = "broken" if low > judged.max_drop else "straddles"
    return Verdict(standing, judged.drop, low, high, judged.max_drop, samples, unread)


def stated(judged: Accuracy, samples: int, unread: int = 0, done: str = "") -> Accuracy:
    """The accuracy with its verdict in words. done: what was done about a straddling interval."""
    verdict = verdict_of(judged, samples, unread)
    return replace(judged, samples=samples, verdict=verdict.standing, note=f"{verdict.text} {done}".strip())


def prefer_safer(
    plan: Plan,
    space: Space,
    verdict: Callable[[Plan], Verdict],
    ratio: Callable[[Plan, Plan], float],
    objective: Objective = "latency",
    most_slower: float = MOST_SLOWER,
) -> Settled:
    """Where the plan straddles the budget, take back its worst sites until it holds, if that costs next to no time.

    verdict: on held-out samples;  ratio: time, or size where that is the objective, of the first plan over the second's
    """
    found = verdict(plan)
    if found.standing != "straddles" or not plan.choices:
        return Settled(plan, (), found, "")
    reason = f"the 95 % interval of the drop straddles the budget, and without it the model is as {_GOOD[objective]}"
    safer, reverted = revert_until(plan, space, lambda each: verdict(each).standing == "held", reason, objective)
    slower = ratio(safer, plan)
    measure = "size" if objective == "size" else "time"
    if slower <= most_slower:
        layers = len({revert.site for revert in reverted})
        done = f"A safer plan was taken: {layers} layers back in wider formats, {slower:.2f}x the {measure}."
        return Settled(safer, tuple(reverted), verdict(safer), done)
    return Settled(plan, (), found, f"The plan was kept: the safer one takes {slower:.2f}x its {measure}.")


def count(samples: int) -> str:
    return f"{samples} held-out sample" + ("s" if samples != 1 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
