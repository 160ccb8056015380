"""One session against another on the clock, for as long as there is doubt."""

from __future__ import annotations

import statistics
from math import inf

from lwc.compiler.core.backend import Feeds, Session
from lwc.compiler.measure import latency

CLEAR = 1.1  # times: more than one round can be wrong by
AGREED = 1.03  # times: where two rounds are beyond it on one side, so is the median of three
ROUNDS = (CLEAR, AGREED, inf)


def time_ratio(mine: Session, other: Session, feeds: Feeds, seconds: float) -> float:
    """Time of the one divided by that of the other, side by side: the median of three rounds, or of fewer if clear.

    seconds: for each session in all rounds together
    """
    ratios: list[float] = []
    for enough in ROUNDS:
        one, two = latency([mine, other], feeds, seconds=seconds / len(ROUNDS), min_blocks=2)
        ratios.append(one.median_ms / two.median_ms)
        if min(ratios) > enough or max(ratios) < 1.0 / enough:
            break
    return statistics.median(ratios)
