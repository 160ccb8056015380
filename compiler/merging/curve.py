"""Numbers over a coefficient, as a merge found them, and how they look as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Curve:
    """over: what x is;  x: ascending;  lines: name -> a number at each x;  chosen: the index that the merge took"""

    over: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    chosen: int


def sparkline(values: Sequence[float]) -> str:
    """One block for each value, the lowest for the least."""
    low, high = min(values), max(values)
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[round((value - low) / (high - low) * steps) if high > low else 0] for value in values)
