"""Weights solved anew toward what their layer gave before, from inputs that have changed since.

    min  E || y - W' x' ||^2  +  r m || W' - W ||^2        y: outputs wanted;  x': inputs as they come now;  m: E[x'^2]

A layer that reads what errors of earlier layers left takes them over as far as it can (He, Zhang, Sun 2017, "Channel
pruning for accelerating very deep neural networks", eq. 5). How far it may leave its weight is chosen by two-fold cross
validation: few samples explain a wide layer perfectly, and say nothing of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Floats = NDArray[np.float64]

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
LEAST_GAIN = 0.99  # of the error on samples that a fold has not seen: what gains less stays as it is


@dataclass
class Pairs:
    """Sums over pairs of rows.  gram: x' x'^T [in, in];  cross: y x'^T [out, in];  power: of y"""

    gram: Floats
    cross: Floats
    power: float = 0.0

    @staticmethod
    def none(outputs: int, inputs: int) -> Pairs:
        """No pairs yet."""
        return Pairs(np.zeros((inputs, inputs)), np.zeros((outputs, inputs)))

    def add(self, now: NDArray[Any], wanted: NDArray[Any]) -> None:
        """More of them: inputs now [n, in], outputs wanted [n, out]; products in float32, their sums in float64."""
        now, wanted = now.astype(np.float32), wanted.astype(np.float32)
        self.gram += now.T @ now
        self.cross += wanted.T @ now
        self.power += float(np.square(wanted, dtype=np.float64).sum())

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.gram + other.gram, self.cross + other.cross, self.power + other.power)

    def error(self, weight: Floats) -> float:
        """Sum of || y - W x' ||^2."""
        return float(np.sum((weight @ self.gram - 2.0 * self.cross) * weight)) + self.power


def solved_toward(weight: Floats, folds: tuple[Pairs, Pairs]) -> Floats | None:
    """The weight [out, in] solved on both folds; None where on unseen pairs no ridge is better than leaving it."""
    halves = folds[::-1], folds
    best, least = None, LEAST_GAIN * sum(fold.error(weight) for fold in folds)
    for ridge in RIDGES:
        tried = [(solved(weight, seen, ridge), unseen) for seen, unseen in zip(*halves, strict=True)]
        error = sum(np.inf if new is None else unseen.error(new) for new, unseen in tried)
        if error < least:
            best, least = ridge, error
    return None if best is None else solved(weight, folds[0] + folds[1], best)


def solved(weight: Floats, pairs: Pairs, ridge: float) -> Floats | None:
    """Ridge regression toward the weight it starts from; None where the system cannot be solved."""
    scale = np.trace(pairs.gram) / max(1, len(pairs.gram))
    if not np.isfinite(scale) or scale <= 0.0:
        return None
    try:
        factor = cho_factor(pairs.gram + ridge * scale * np.eye(len(pairs.gram)), lower=True)
        change: Floats = cho_solve(factor, (pairs.cross - weight @ pairs.gram).T).T
    except (LinAlgError, ValueError):
        return None
    return weight + change if np.isfinite(change).all() else None
