"""Measured loss of each choice at each site: the choice alone on a fork, run on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lwc.compiler.core.plan import Choice, Float, Plan, Range, Site
from lwc.compiler.search.evaluate import Workbench

MOST_SAMPLES = 8
MULTIPLY_ADDS = 4e11  # of all the runs together: some 10 s on two cores


def measured_losses(
    bench: Workbench,
    options: Mapping[Site, Sequence[Choice]],
    ranges: Mapping[str, Range],
    samples: int,
    each: Callable[[], None],
) -> dict[tuple[Site, Choice], float]:
    """Relative squared error of the model's outputs for every (site, choice); 0 for float.

    samples: how many search samples each is run on;  each: called after every measurement
    """
    losses: dict[tuple[Site, Choice], float] = {}
    for site, choices in options.items():
        for choice in choices:
            if isinstance(choice, Float):
                losses[site, choice] = 0.0
                continue
            losses[site, choice] = bench.noise(Plan({site: choice}, ranges), samples)
            each()
    return losses


def samples_for(macs: int, measurements: int, available: int) -> int:
    """How many samples each measurement may take, from the model's multiply-adds: the same on every machine."""
    affordable = int(MULTIPLY_ADDS / max(1.0, float(macs) * max(1, measurements)))
    return max(1, min(MOST_SAMPLES, available, max(2, affordable)))
