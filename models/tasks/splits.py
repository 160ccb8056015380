"""Which items of a fixed collection a task shows: two halves that never meet, each drawn in an order by seed."""

from __future__ import annotations

import numpy as np

SPLITS = ("calibration", "test")

# Decides the halves, for every task and whatever the caller's seed: changing it changes every score.
_HALVING_SEED = 20240229


def draw(total: int, count: int, seed: int, split: str) -> list[int]:
    """Positions of at most count of the total items, all of one half, none twice.

    The halves depend on total alone, so calibration items of one seed are never test items of another.
    Raises ValueError for an unknown split.
    """
    half = half_of(total, split)
    return [int(position) for position in np.random.default_rng(seed).permutation(half)[:count]]


def half_of(total: int, split: str) -> list[int]:
    """All positions of one half, ascending; the calibration half has the odd item out."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    shuffled = np.random.default_rng(_HALVING_SEED).permutation(total)
    return sorted(int(position) for position in shuffled[SPLITS.index(split) :: 2])


def made_item_rng(task: str, seed: int, split: str, index: int) -> np.random.Generator:
    """The generator of one item that is made, not chosen: item 7 of a split is the same in any count."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    return np.random.default_rng([*task.encode("utf-8"), seed, SPLITS.index(split), index])
