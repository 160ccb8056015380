"""AdaRound: for each weight, round down or up, found by gradient on a relaxation that ends at the two.

Nagel et al. 2020, eq. 21-25, with the Gram matrix in place of samples:

    W' = scale * (clip(floor(W / scale) + h(V) + zero) - zero)
    h(V) = clip(sigmoid(V) * (zeta - gamma) + gamma, 0, 1)             zeta = 1.1, gamma = -0.1
    minimize  tr((W - W') H (W - W')^T)  +  lambda * sum(1 - |2 h(V) - 1|^beta)

Each row's loss is divided by that of nearest rounding per weight, so that lambda means the same for every layer.
Differs from the paper, as full gradients need fewer steps (300, theirs 10,000): lambda rises from 1 to 10 (theirs is
fixed) and beta falls from 4 to 2 (20 to 2, after a fifth of the steps without the regularizer); coordinate descent
finishes the codes, which may then leave the two neighbours. Rows that GPTQ solves better take its codes before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.descent import descend
from lwc.passes.solvers.gptq import gptq
from lwc.passes.solvers.grid import Codes, Floats, Grid, Weights, row_losses
from lwc.passes.solvers.guard import better_rows, never_worse_than_nearest

Singles = NDArray[np.float32]

_ZETA, _GAMMA = 1.1, -0.1
_STEPS = 300
_BETA = (4.0, 2.0)
_LAMBDA = (1.0, 10.0)
_RATE = 0.1
# Below this, a row is as good as on its grid.
_LEAST_LOSS = 1e-20
# Steps between looks at what hard rounding would cost now.
_LOOK = 50


@never_worse_than_nearest
def adaround(weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Codes [out, in] on the grid, none of which can be improved alone; no row is worse than GPTQ's.

    weight: [out, in];  gram: [in, in]
    """
    problem = Relaxation.of(weight, gram, grid)
    best = gptq(weight, gram, grid)
    # h(V) starts at the share of a step that rounding down loses, so that W' = W.
    relaxed = logit(problem.fraction)
    adam = _Adam(relaxed)
    for step in range(_STEPS):
        relaxed -= adam.step(problem.gradient(relaxed, step / _STEPS))
        if (step + 1) % _LOOK == 0:
            best = better_rows(weight, gram, grid, best, problem.codes(relaxed))
    return descend(weight.astype(np.float64), gram, grid, best)


@dataclass(frozen=True)
class Relaxation:
    """weight, scale, fraction: [out, in];  least, most: codes less their zero points;  down: floor(W / scale)

    fraction: W / scale - down;  per_row: [out, 1] what turns a row's loss into multiples of nearest rounding's
    """

    weight: Singles
    gram: Singles
    scale: Singles
    zero: NDArray[np.int32]
    least: Singles
    most: Singles
    down: Singles
    fraction: Singles
    per_row: Singles

    @staticmethod
    def of(weight: Weights, gram: Floats, grid: Grid) -> Relaxation:
        scale, zero = grid.spread(weight.shape[1])
        steps = weight / scale
        down = np.floor(steps)
        nearest = row_losses(weight, grid.dequantize(grid.quantize(weight)), gram)
        per_row = (weight.shape[1] / np.maximum(nearest, _LEAST_LOSS)).astype(np.float32)
        least, most = ((end - zero).astype(np.float32) for end in (grid.floor, grid.ceiling))
        return Relaxation(
            weight, gram.astype(np.float32), scale, zero, least, most, down, steps - down, per_row[:, None]
        )  # fmt: skip

    def gradient(self, relaxed: Singles, progress: float) -> Singles:
        """Of the objective by V;  progress: share of the steps done, 0 to 1."""
        logistic: Singles = np.reciprocal(np.float32(1.0) + np.exp(-relaxed))
        share: Singles = np.clip(logistic * np.float32(_ZETA - _GAMMA) + np.float32(_GAMMA), 0.0, 1.0)
        steps = self.down + share
        error: Singles = np.clip(steps, self.least, self.most) * self.scale - self.weight
        slope: Singles = error @ self.gram
        slope *= self.scale * (np.float32(2.0) * self.per_row)
        slope *= (steps >= self.least) & (steps <= self.most)
        slope += _regularizer_slope(share, progress)
        slope *= logistic * (np.float32(1.0) - logistic) * np.float32(_ZETA - _GAMMA)
        slope *= (share > 0.0) & (share < 1.0)
        return slope

    def codes(self, relaxed: Singles) -> Codes:
        """Hard rounding: up where h(V) >= 1/2."""
        steps = np.clip(self.down + (relaxed >= 0.0), self.least, self.most)
        return steps.astype(np.int32) + self.zero


def schedule(progress: float) -> tuple[float, float]:
    """lambda, which rises by equal factors, and beta, which falls along half a cosine."""
    (weak, strong), (first, last) = _LAMBDA, _BETA
    return weak * (strong / weak) ** progress, last + (first - last) * (1.0 + math.cos(progress * math.pi)) / 2.0


def _regularizer_slope(share: Singles, progress: float) -> Singles:
    """d/dh of lambda * (1 - |2h - 1|^beta)."""
    strength, beta = schedule(progress)
    centered: Singles = np.float32(2.0) * share - np.float32(1.0)
    slope: Singles = np.abs(centered) ** np.float32(beta - 1.0)
    slope *= np.sign(centered) * np.float32(-2.0 * strength * beta)
    return slope


def logit(share: Singles) -> Singles:
    """V with h(V) = share, for shares in [0, 1]."""
    odds: Singles = np.float32(_ZETA - _GAMMA) / (share - np.float32(_GAMMA)) - np.float32(1.0)
    return -np.log(odds)


@dataclass
class _Adam:
    """Kingma & Ba 2015, algorithm 1."""

    like: Singles
    count: int = 0
    mean: Singles = field(init=False)
    square: Singles = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.square = np.zeros_like(self.like), np.zeros_like(self.like)

    def step(self, gradient: Singles) -> Singles:
        self.count += 1
        self.mean += np.float32(0.1) * (gradient - self.mean)
        self.square += np.float32(0.001) * (np.square(gradient) - self.square)
        mean = self.mean / np.float32(1.0 - 0.9**self.count)
        square = self.square / np.float32(1.0 - 0.999**self.count)
        change: Singles = np.float32(_RATE) * mean / (np.sqrt(square) + np.float32(1e-8))
        return change
