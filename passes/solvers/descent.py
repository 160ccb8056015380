"""Cyclic coordinate descent on the layer objective, one code of every row at a time.

Behdin et al. 2023, lemma 1. With the other columns fixed, the objective is a parabola in column j whose least is at

    b_j = w'_j + [(W - W') H]_j / H_jj

so the best code is the nearest to b_j, and every step lowers the loss or leaves it. Rows are independent and are
dropped once a sweep changes none of their codes: then no single code can be improved.
"""

from __future__ import annotations

import numpy as np

from lwc.passes.solvers.grid import Codes, Floats, Grid

# Sweeps end when nothing changes, after 5 to 30 as a rule.
_SWEEPS = 100
# Columns whose changes are passed on to the rest at once, by one matrix product.
_BLOCK = 64
# A code changes only where that is nearer by this share of a step, so that rounding errors cannot make it oscillate.
_LEAST_GAIN = 1e-9


def descend(weight: Floats, gram: Floats, grid: Grid, codes: Codes, sweeps: int = _SWEEPS) -> Codes:
    """Coordinate descent from `codes` until no single code can be improved, or for so many sweeps.  gram: symmetric."""
    result = codes.copy()
    active = np.arange(len(codes))
    for _ in range(sweeps):
        before = result[active]
        result[active] = _sweep(weight[active], gram, grid.rows(active), before)
        active = active[(result[active] != before).any(axis=1)]
        if not len(active):
            break
    return result


def _sweep(weight: Floats, gram: Floats, grid: Grid, codes: Codes) -> Codes:
    """All columns once.  Works on transposes, [in, out], where a column of the weight is contiguous."""
    scale, zero = (np.ascontiguousarray(part.T) for part in grid.spread(weight.shape[1]))
    new = codes.T.copy()
    values = (new - zero) * scale.astype(np.float64)
    product = gram @ (weight.T - values)
    curvature = np.diagonal(gram)
    for start in range(0, len(new), _BLOCK):
        stop = min(start + _BLOCK, len(new))
        changes = np.zeros((stop - start, new.shape[1]))
        for j in range(start, stop):
            if curvature[j] <= 0.0:
                continue
            # How many steps of the grid the best value is away.
            wish = (values[j] + product[j] / curvature[j]) / scale[j] + zero[j]
            best = np.clip(np.rint(wish), grid.floor, grid.ceiling)
            best = np.where(np.abs(best - wish) < np.abs(new[j] - wish) - _LEAST_GAIN, best, new[j])
            changes[j - start] = (best - new[j]) * scale[j].astype(np.float64)
            new[j] = best
            product[j + 1 : stop] -= gram[j + 1 : stop, j, None] * changes[j - start]
        product[stop:] -= gram[stop:, start:stop] @ changes
    return np.ascontiguousarray(new.T)
