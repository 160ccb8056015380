"""The best weights of an average, found by trying: weights >= 0 that sum to one, and a score that is no formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

Weights = tuple[float, ...]

STEPS = (0.25, 0.125, 0.0625)  # of weight that goes from one model to another


def climb(score: Callable[[Weights], float], start: Sequence[float], steps: Sequence[float] = STEPS) -> Weights:
    """From the start uphill: each step moves weight from one to another where that scores strictly more, largest first.

    A step is taken until no pair gains, then the next smaller one. The score of the result is at least the start's.
    """
    best = tuple(start)
    most = score(best)
    for step in steps:
        gained = True
        while gained:
            gained = False
            for source, target in permutations(range(len(best)), 2):
                tried = _moved(best, source, target, step)
                found = most if tried == best else score(tried)
                if found > most:
                    best, most, gained = tried, found, True
    return best


def _moved(weights: Weights, source: int, target: int, step: float) -> Weights:
    """At most what the source has."""
    amount = min(step, weights[source])
    moved = {source: weights[source] - amount, target: weights[target] + amount}
    return tuple(moved.get(k, weight) for k, weight in enumerate(weights))
