"""SignRound: offsets of up to half a step before rounding, and the ends of each block, moved by gradient signs.

Cheng et al. 2023, eq. 3-5, with the Gram matrix in place of samples:

    low, high = low0 * beta, high0 * alpha        scale, zero: of these ends
    W' = scale * (clip(rint(W / scale + V) + zero) - zero)          |V| <= 1/2,  alpha, beta in [1/2, 1]
    V, alpha, beta  <-  themselves - rate * sign(gradient of tr((W - W') H (W - W')^T))

rint passes gradients through as if it were not there; the rate falls to zero along a line. Each row keeps the best
of what it saw. Symmetric grids have one end, alpha. Differs from the paper: coordinate descent finishes the codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.descent import descend
from lwc.passes.solvers.grid import Codes, Floats, Grid, Weights, row_losses
from lwc.passes.solvers.guard import Problem, never_worse_than_nearest

Singles = NDArray[np.float32]

_STEPS = 200
# At the mean rate, half of it, an offset can cross from zero to either end.
_RATE = 1.0 / _STEPS
_LEAST_SHARE = 0.5


@never_worse_than_nearest
def signround(weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Codes [out, in] on the grid as it is (only V moves), of which no single one can be improved.

    weight: [out, in];  gram: [in, in]
    """
    _, codes = _descend(weight, gram, grid, tune=False)
    return descend(weight.astype(np.float64), gram, grid, codes)


def signround_tuned(weight: Weights, gram: Floats, grid: Grid) -> tuple[Grid, Codes]:
    """A grid with tuned ends and codes on it; no row is worse than nearest rounding on the grid given."""
    nearest = grid.quantize(weight)
    problem = Problem.of(weight, gram, grid)
    if problem is None:
        return grid, nearest
    tuned, codes = _descend(problem.weight, problem.gram, problem.grid, tune=True)
    codes = descend(problem.weight.astype(np.float64), problem.gram, tuned, codes)
    tuned = replace(tuned, scale=tuned.scale * problem.unit)
    before, after = (
        row_losses(weight, rounded, problem.gram) for rounded in (grid.dequantize(nearest), tuned.dequantize(codes))
    )
    better = after < before
    return _with_rows(grid, tuned, better), np.where(better[:, None], codes, nearest)


@dataclass(frozen=True)
class _Ends:
    """alpha, beta: [out, groups] shares of the grid's ends that are kept."""

    alpha: Singles
    beta: Singles

    def of(self, grid: Grid) -> Grid:
        """The grid within these ends; as it was where both are 1."""
        if grid.floor < 0:
            return replace(grid, scale=grid.scale * self.alpha)
        low, high = (grid.floor - grid.zero) * grid.scale, (grid.ceiling - grid.zero) * grid.scale
        scale = ((high * self.alpha - low * self.beta) / (grid.ceiling - grid.floor)).astype(np.float32)
        zero = np.clip(np.rint(grid.floor - low * self.beta / scale), grid.floor, grid.ceiling)
        return replace(grid, scale=scale, zero=zero.astype(np.int32))

    def moved(self, grid: Grid, slope: Singles, rate: np.float32) -> _Ends:
        """slope: [out, groups], the gradient by the scale; a scale falls with either of its ends."""
        ones = np.ones_like(slope)
        by_alpha = slope if grid.floor < 0 else slope * (grid.ceiling - grid.zero)
        by_beta = np.zeros_like(slope) if grid.floor < 0 else slope * (grid.zero - grid.floor)
        alpha = np.clip(self.alpha - rate * np.sign(by_alpha), _LEAST_SHARE, ones)
        beta = np.clip(self.beta - rate * np.sign(by_beta), _LEAST_SHARE, ones)
        return _Ends(alpha.astype(np.float32), beta.astype(np.float32))


def _descend(weight: Weights, gram: Floats, grid: Grid, tune: bool) -> tuple[Grid, Codes]:
    single = gram.astype(np.float32)
    offset = np.zeros_like(weight)
    ends = _Ends(np.ones_like(grid.scale), np.ones_like(grid.scale))
    least = np.full(len(weight), np.inf)
    best, best_codes = grid, grid.quantize(weight)
    now, rounding = grid, _Rounding.of(weight, grid)
    for step in range(_STEPS):
        if tune:
            now = ends.of(grid)
            rounding = _Rounding.of(weight, now)
        codes, inside = rounding.codes(offset)
        error = codes * rounding.scale - weight
        slope = error @ single
        losses = np.einsum("ij,ij->i", slope, error)
        better = losses < least
        least[better] = losses[better]
        best_codes[better] = (codes + rounding.zero)[better]
        rate = np.float32(_RATE * (1.0 - step / _STEPS))
        if tune:
            best = _with_rows(best, now, better)
            by_scale = slope * (codes - inside * rounding.steps)
            ends = ends.moved(now, _per_group(by_scale, grid.group, grid.scale.shape[1]), rate)
        offset -= rate * np.sign(slope) * inside
        np.clip(offset, -0.5, 0.5, out=offset)
    return best, best_codes


@dataclass(frozen=True)
class _Rounding:
    """steps: W / scale;  scale, zero: of every weight;  least, most: codes less their zero points;  [out, in] each"""

    steps: Singles
    scale: Singles
    zero: Singles
    least: Singles
    most: Singles

    @staticmethod
    def of(weight: Weights, grid: Grid) -> _Rounding:
        scale, zero = grid.spread(weight.shape[1])
        least, most = ((end - zero).astype(np.float32) for end in (grid.floor, grid.ceiling))
        return _Rounding(weight / scale, scale, zero.astype(np.float32), least, most)

    def codes(self, offset: Singles) -> tuple[Singles, NDArray[np.bool_]]:
        """Codes less their zero points, and where none was clipped."""
        wanted: Singles = np.rint(self.steps + offset)
        codes: Singles = np.clip(wanted, self.least, self.most)
        return codes, codes == wanted


def _with_rows(grid: Grid, other: Grid, chosen: NDArray[np.bool_]) -> Grid:
    """The grid with some rows of another."""
    at = chosen[:, None]
    return replace(grid, scale=np.where(at, other.scale, grid.scale), zero=np.where(at, other.zero, grid.zero))


def _per_group(values: NDArray[np.floating], group: int, groups: int) -> Singles:
    """Sums over the columns of each group: [out, in] -> [out, groups]."""
    filled = np.zeros((len(values), groups * group), np.float32)
    filled[:, : values.shape[1]] = values
    sums: Singles = filled.reshape(len(values), groups, group).sum(axis=2)
    return sums
