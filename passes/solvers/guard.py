"""What all rounding solvers share: numbers fit to compute with, and a result never worse than nearest rounding."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from lwc.passes.solvers.grid import Codes, Floats, Grid, Rounding, Weights, row_losses


@dataclass(frozen=True)
class Problem:
    """A layer in units that neither overflow nor vanish in float32; codes mean the same as before.

    unit: [out, 1] a power of two per row, which weight and scales were divided by (exactly)
    gram: symmetric, its largest diagonal 1
    """

    weight: Weights
    gram: Floats
    grid: Grid
    unit: Weights

    @staticmethod
    def of(weight: Weights, gram: Floats, grid: Grid) -> Problem | None:
        """None where there is nothing to solve: no weights; a Gram matrix of zeros (no samples, or none that reach
        this layer) or with values that are not finite (activations that overflow)."""
        top = float(np.max(np.diagonal(gram), initial=0.0))
        if not weight.size or top <= 0.0 or not np.isfinite(gram).all():
            return None
        scaled = gram / top
        _, exponent = np.frexp(grid.scale.max(axis=1, keepdims=True))
        unit = np.ldexp(np.ones_like(grid.scale[:, :1]), exponent - 1)
        return Problem(
            weight / unit, (scaled + scaled.T) / 2.0, replace(grid, scale=grid.scale / unit), unit
        )  # fmt: skip


def never_worse_than_nearest(solver: Rounding) -> Rounding:
    """The solver, called with a Problem's parts; rows that it makes worse than nearest rounding take nearest.

    Where there is nothing to solve it is not called, and nearest it is.
    """

    @functools.wraps(solver)
    def guarded(weight: Weights, gram: Floats, grid: Grid) -> Codes:
        nearest = grid.quantize(weight)
        problem = Problem.of(weight, gram, grid)
        if problem is None:
            return nearest
        codes = solver(problem.weight, problem.gram, problem.grid)
        return better_rows(problem.weight, problem.gram, problem.grid, nearest, codes)

    return guarded


def better_rows(weight: Weights, gram: Floats, grid: Grid, codes: Codes, others: Codes) -> Codes:
    """Of two solutions [out, in], each row's with the lesser loss; the first where they are equal."""
    one = row_losses(weight, grid.dequantize(codes), gram)
    other = row_losses(weight, grid.dequantize(others), gram)
    return np.where((other < one)[:, None], others, codes)
