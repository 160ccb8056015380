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
# Columns whose slopes are taken by one matrix product; changes within it are passed on one by one.
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
    scale, zero = grid.spread(weight.shape[1])
    scales = np.ascontiguousarray(scale.T, np.float64)
    # Codes in floats: from the zero point on, between what is left of the grid on either side.
    steps = np.ascontiguousarray((codes - zero).T, np.float64)
    least, most = (np.ascontiguousarray((limit - zero).T, np.float64) for limit in (grid.floor, grid.ceiling))
    left = weight.T - steps * scales
    curvature = np.diagonal(gram)
    for start in range(0, len(steps), _BLOCK):
        block = slice(start, start + _BLOCK)
        product = gram[block] @ left
        changes = np.zeros_like(product)
        for k, (slope, now, scale_of, low, high) in enumerate(
            zip(product, steps[block], scales[block], least[block], most[block], strict=True)
        ):
            j = start + k
            if curvature[j] <= 0.0:
                continue
            slope -= gram[j, start:j] @ changes[:k]
            # How many steps of the grid the best value is away.
            wish = now + slope / (curvature[j] * scale_of)
            best = np.minimum(np.maximum(np.rint(wish), low), high)
            best = np.where(np.abs(best - wish) < np.abs(now - wish) - _LEAST_GAIN, best, now)
            changes[k] = (best - now) * scale_of
            now[:] = best
        left[block] -= changes
    found: Codes = np.ascontiguousarray(steps.T).astype(np.int32) + zero
    return found
