"""Times of sessions side by side, over rounds with fresh ones.

Two sessions of one file differ by up to 10 % where a run takes a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lwc.compiler.measure import latency


def times(
    opens: Sequence[Callable[[], Any]], feeds: Mapping[str, np.ndarray], seconds: float, rounds: int
) -> list[float]:
    """Milliseconds of a run in each session: the first one's median, the others by the median of their ratio to it.

    seconds: for each session, all rounds together;  rounds: an odd number
    """
    found = [latency([open_() for open_ in opens], feeds, seconds=seconds / rounds) for _ in range(rounds)]
    ms = np.array([[session.median_ms for session in sessions] for sessions in found])
    return [float(x) for x in np.median(ms[:, 0]) * np.median(ms / ms[:, :1], axis=0)]
