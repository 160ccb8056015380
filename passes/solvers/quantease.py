"""QuantEase: cyclic coordinate descent on the layer objective, and its variant that keeps a few weights in float.

Behdin et al. 2023, sections 3 and 4. The start is GPTQ's solution; theirs is W itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.descent import descend
from lwc.passes.solvers.gptq import gptq
from lwc.passes.solvers.grid import Codes, Floats, Grid, Weights, layer_loss
from lwc.passes.solvers.guard import Problem, never_worse_than_nearest

# Turns of codes and floats, and steps on the floats in each.
_ROUNDS = 3
_DESCENTS = 10


@never_worse_than_nearest
def quantease(weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Codes [out, in] on the grid, never worse than GPTQ's.  weight: [out, in];  gram: [in, in]."""
    return descend(weight.astype(np.float64), gram, grid, gptq(weight, gram, grid))


@dataclass(frozen=True)
class Outliers:
    """What a few weights differ from the grid's values by: W' = dequantize(codes), W'[rows, columns] += values.

    rows, columns, values: [count]
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: NDArray[np.float32]

    def added_to(self, rounded: Weights) -> Weights:
        """The layer's weight [out, in]."""
        result = rounded.copy()
        result[self.rows, self.columns] += self.values
        return result


def quantease_outliers(weight: Weights, gram: Floats, grid: Grid, share: float = 0.01) -> tuple[Codes, Outliers]:
    """Codes on the grid and floats for a `share` of the weights, never worse than `quantease` (their section 4).

    Codes and floats S take turns on the least || (W - W' - S) X ||: coordinate descent on the codes, then iterative
    hard thresholding, S <- the largest `count` of  S + (W - W' - S) H / L  with L at least H's largest eigenvalue,
    which never raises the loss. It starts from the weights whose rounding to the nearest costs most, by (w - w')^2
    H_jj, and from none. The grid need not cover the outliers: make it of what `largest_costs` leaves.
    """
    count = round(share * weight.size)
    plain = quantease(weight, gram, grid)
    none = np.zeros(weight.shape, np.float32)
    problem = Problem.of(weight, gram, grid)
    if not count or problem is None:
        return plain, _sparse(none)
    errors = problem.weight - problem.grid.dequantize(grid.quantize(weight)).astype(np.float64)
    # What a weight's error costs the layer: rows were scaled each by its own unit.
    chosen = largest_costs(errors * problem.unit, np.diagonal(problem.gram), count)
    solutions = [(plain, none)] + [
        _alternate(problem, plain, floats, count) for floats in (np.where(chosen, errors, 0.0), np.zeros(none.shape))
    ]
    losses = [layer_loss(weight, grid.dequantize(codes) + floats, gram) for codes, floats in solutions]
    codes, floats = solutions[int(np.argmin(losses))]
    return codes, _sparse(floats)


def largest_costs(errors: NDArray[np.floating], curvature: Floats, count: int) -> NDArray[np.bool_]:
    """Which `count` of the errors [out, in] cost most, by e^2 H_jj (or any [in] weights); the first of equal ones."""
    costs: Floats = (np.square(errors) * curvature).reshape(-1)
    if count >= costs.size:
        return np.ones(errors.shape, np.bool_)
    least = np.partition(costs, costs.size - count - 1)[costs.size - count - 1]
    chosen: NDArray[np.bool_] = costs > least
    chosen[np.flatnonzero(costs == least)[: count - int(chosen.sum())]] = True
    return chosen.reshape(errors.shape[0], errors.shape[1])


def _alternate(problem: Problem, codes: Codes, floats: Floats, count: int) -> tuple[Codes, Weights]:
    """floats: [out, in] S in the problem's units; returns the codes, and S in the layer's."""
    weight, gram, grid = problem.weight.astype(np.float64), problem.gram, problem.grid
    # No eigenvalue is larger than the largest row sum (Gershgorin), nor than the Frobenius norm.
    limit = min(float(np.max(np.abs(gram).sum(axis=1))), float(np.linalg.norm(gram)))
    ones = np.ones(len(gram))
    for _ in range(_ROUNDS):
        codes = descend(weight - floats, gram, grid, codes)
        error = weight - grid.dequantize(codes)
        for _ in range(_DESCENTS):
            moved = floats + (error - floats) @ gram / limit
            floats = np.where(largest_costs(moved * problem.unit, ones, count), moved, 0.0)
    return codes, (floats * problem.unit).astype(np.float32)


def _sparse(dense: Weights) -> Outliers:
    rows, columns = np.nonzero(dense)
    return Outliers(rows, columns, dense[rows, columns])
