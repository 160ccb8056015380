"""Which interval of values an integer format should cover, from a tensor's histogram.

Every method is a pure function of TensorStats that returns a Range holding zero, so that zero, the value of
padding and of every ReLU's floor, is exact. Affine quantization of a range to `levels` codes is

    scale = (high - low) / (levels - 1)     codes stand for (k - round(-low / scale)) * scale,  k = 0 .. levels - 1

which shifts the range by up to half a step; errors here are those of the shifted grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.plan import Range
from lwc.compiler.core.stats import TensorStats

Floats = NDArray[np.float64]

LEVELS = 256

# What each end is shrunk by in the first search: 2^0, 2^-1/2 ... 2^-12, then the end at zero.
_COARSE = np.append(2.0 ** (-np.arange(25) / 2), 0.0)
# Later ones look at so many points between the neighbours of the best, which draw nearer each round.
_FINE = 9
_ROUNDS = 5
# Windows that the entropy search looks at (Migacz looks at every bin).
_WINDOWS = 160
# As TVM and MXNet do: what empty bins are raised to before the divergence is taken.
_SMOOTHING = 1e-4


def minmax(stats: TensorStats) -> Range:
    """From the least to the largest value seen."""
    return Range(min(stats.minimum, 0.0), max(stats.maximum, 0.0))


def percentile(stats: TensorStats, p: float = 99.99) -> Range:
    """The middle `p` percent of the values: (100 - p) / 2 percent lie outside at each end.

    Exact zeros are not counted: every range holds them, and where nearly all values are zero they would push
    the others out. minmax where nothing is left.
    """
    counts = _without_zeros(stats)
    if not counts.sum():
        return minmax(stats)
    edges = np.clip(stats.edges, stats.minimum, stats.maximum)
    below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    tail = (1.0 - p / 100.0) / 2.0
    low, high = np.interp([tail, 1.0 - tail], below, edges).tolist()
    range_ = Range(min(low, 0.0), max(high, 0.0))
    return range_ if range_.low < range_.high else minmax(stats)


def mse(stats: TensorStats, levels: int = LEVELS) -> Range:
    """Least expected squared error of quantization over the histogram; never worse than minmax.

    Both ends are shrunk together, then each on its own, in turns: by half powers of two, then by finer steps.
    """
    full = minmax(stats)
    if full.low == full.high:
        return full
    density = _Density.of(stats)
    ends = np.array([full.low, full.high])
    factors, best = np.ones(2), float(density.errors(ends[:1], ends[1:], levels)[0])
    directions = [np.ones(2), *np.eye(2)] if ends.all() else [np.ones(2)]
    for spread in (None, *(2.0 ** -(i / 2 + 1) for i in range(_ROUNDS))):
        for direction in directions:
            around = float(factors[direction > 0].max())
            tried = _COARSE if spread is None else around * 2.0 ** np.linspace(-spread, spread, _FINE)
            factors, best = _line_search(density, ends, factors, best, direction, tried, levels)
    low, high = (ends * factors).tolist()
    return Range(min(low, 0.0), max(high, 0.0))


def entropy(stats: TensorStats, levels: int = LEVELS) -> Range:
    """Least divergence KL(P || Q) of the clipped histogram P from its quantized form Q (Migacz 2017).

    P: the bins within +-t, what lies outside added to the outermost;  Q: these bins in `levels` groups, each
    group's count spread evenly over its bins that are not empty. Exact zeros are left out: they cost nothing.
    Differs from the paper: t cuts both signs of an asymmetric range, and some 160 values of t are tried.
    """
    full = minmax(stats)
    counts = _without_zeros(stats)
    zero = _zero_position(stats)
    radius = max(zero, len(counts) - zero)
    smallest = levels if zero in (0, len(counts)) else levels // 2
    if counts.sum() == 0 or radius <= smallest or not 0 <= zero <= len(counts):
        return full
    best, best_range = np.inf, full
    for reach in np.unique(np.linspace(smallest, radius, _WINDOWS).astype(int)).tolist():
        start, stop = max(zero - reach, 0), min(zero + reach, len(counts))
        if stop - start < levels:
            continue
        divergence = _divergence(counts, start, stop, levels)
        if divergence < best:
            window = Range(float(min(stats.edges[start], 0.0)), float(max(stats.edges[stop], 0.0)))
            best, best_range = divergence, Range(max(window.low, full.low), min(window.high, full.high))
    return best_range


METHODS: tuple[tuple[str, Callable[[TensorStats], Range]], ...] = (
    ("minmax", minmax),
    ("percentile", percentile),
    ("mse", mse),
    ("entropy", entropy),
)


def symmetric(range_: Range) -> Range:
    """The least range around zero, equal to both sides, that covers `range_`."""
    reach = max(-range_.low, range_.high)
    return Range(-reach, reach)


def quantization_error(stats: TensorStats, range_: Range, levels: int = LEVELS) -> float:
    """Expected squared error per value, E[(q(x) - x)^2], when `range_` is quantized to `levels` codes.

    Values count as even within their bin, except zeros (exact) and the outermost ones. 0 without values.
    For symmetric int8 pass symmetric(range_) and 255 levels.
    """
    if stats.count == 0:
        return 0.0
    low, high = np.array([min(range_.low, 0.0)]), np.array([max(range_.high, 0.0)])
    return float(_Density.of(stats).errors(low, high, levels)[0])


@dataclass(frozen=True)
class _Density:
    """edges: [bins + 1], cut to what was seen;  share: [bins] of all values, exact zeros left out."""

    edges: Floats
    share: Floats

    @staticmethod
    def of(stats: TensorStats) -> _Density:
        edges = np.clip(stats.edges, stats.minimum, stats.maximum)
        return _Density(edges, _without_zeros(stats) / max(stats.count, 1))

    def errors(self, low: Floats, high: Floats, levels: int) -> Floats:
        """Expected squared error of each candidate (low, high: [candidates]); E[x^2] where both ends are zero.

        Of a bin from a to b, with the antiderivative G of the squared error:  (G(b) - G(a)) / (b - a)
        """
        width = np.diff(self.edges)
        integral = np.diff(_error_integral(self.edges, low, high, levels), axis=1)
        mean = np.divide(integral, width, out=np.zeros_like(integral), where=width > 0)
        points = np.flatnonzero((width <= 0) & (self.share > 0))
        mean[:, points] = _squared_error(self.edges[points], low, high, levels)
        errors: Floats = np.maximum(mean, 0.0) @ self.share
        return errors


def _grid(low: Floats, high: Floats, levels: int) -> tuple[Floats, Floats]:
    """Step and least value of each candidate's grid, [candidates, 1]; a step of zero stands for 'all to zero'."""
    step = (high - low) / (levels - 1)
    zero_point = np.clip(np.rint(-low / np.where(step > 0, step, 1.0)), 0, levels - 1)
    return step[:, None], (-zero_point * step)[:, None]


def _squared_error(x: Floats, low: Floats, high: Floats, levels: int) -> Floats:
    step, least = _grid(low, high, levels)
    codes = np.clip(np.rint((x - least) / np.where(step > 0, step, 1.0)), 0, levels - 1)
    return np.square(least + codes * step - x)


def _error_integral(x: Floats, low: Floats, high: Floats, levels: int) -> Floats:
    """G(x) = integral of (q(v) - v)^2 dv from the grid's least value to x: [candidates, len(x)].

    Within the grid, u = (x - least) / step = n + f with n = rint(u):   step^3 * (n / 12 + f^3 / 3)
    outside, e the distance to the nearer end:                          +- e^3 / 3
    """
    step, least = _grid(low, high, levels)
    u = (x - least) / np.where(step > 0, step, 1.0)
    inside = np.clip(u, 0, levels - 1)
    n = np.rint(inside)
    f = inside - n
    outside = x - (least + inside * step)
    # Products, not powers: numpy's ** 3 takes ten times as long.
    result: Floats = step * step * step * (n / 12 + f * f * f / 3) + outside * outside * outside / 3
    return result


def _line_search(
    density: _Density, ends: Floats, factors: Floats, best: float, direction: Floats, scales: Floats, levels: int
) -> tuple[Floats, float]:
    """The best of shrinking the ends that `direction` names by each of `scales`, or `factors` as they were."""
    tried = np.where(direction > 0, np.minimum(scales, 1.0)[:, None], factors)
    errors = density.errors(ends[0] * tried[:, 0], ends[1] * tried[:, 1], levels)
    errors[(ends * tried == 0.0).all(1)] = np.inf
    at = int(np.argmin(errors))
    return (tried[at], float(errors[at])) if errors[at] < best else (factors, best)


def _zero_position(stats: TensorStats) -> int:
    """Index of the edge at zero; before or after all edges when values have one sign."""
    width = stats.edges[1] - stats.edges[0]
    return round(float(-stats.edges[0] / width))


def _without_zeros(stats: TensorStats) -> Floats:
    counts = stats.histogram.astype(np.float64)
    if stats.zeros:
        counts[_zero_position(stats)] -= stats.zeros
    return counts


def _divergence(counts: Floats, start: int, stop: int, levels: int) -> float:
    window = counts[start:stop]
    clipped = window.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[stop:].sum()
    groups = np.arange(len(window)) * levels // len(window)
    filled = (window > 0).astype(np.float64)
    totals = np.bincount(groups, window, levels)
    even = totals / np.maximum(np.bincount(groups, filled, levels), 1.0)
    p, q = _smoothed(clipped), _smoothed(even[groups] * filled)
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: Floats) -> Floats:
    """Shares in which every empty bin holds a little, taken evenly from the others."""
    total = counts.sum()
    empty = counts == 0
    if total == 0 or not empty.any():
        return counts / total if total else np.full(len(counts), 1.0 / len(counts))
    taken = _SMOOTHING * empty.sum() / len(counts)
    return np.where(empty, _SMOOTHING / len(counts), counts / total * (1.0 - taken))
