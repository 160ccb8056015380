"""How far a weight's integer codes reach: the two ends of each block, a row's weights that share a scale.

    symmetric    scale = max(low / floor, high / ceiling)      zero = 0
    asymmetric   scale = (high - low) / (ceiling - floor)      zero = rint(floor - low / scale)

A method is a function (Blocks, importance) -> (low, high), each [out, groups]. Importance is what an error costs,
[in] (the diagonal of the Gram matrix) or [in, in] (all of it); None: every weight costs the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]

# Below the smallest normal float32, kernels that flush denormals would divide by zero.
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
# Shares of minmax that are tried. Less than half never pays at 3 bits or more for bell-shaped weights (Banner et al.
# 2019).
_SHRINK = tuple(np.linspace(1.0, 0.3, 71).tolist())
# Weights looked at together, so that all steps of one try stay in a core's cache.
_CHUNK = 1 << 15
# Tries after which blocks are left out that clipping alone costs more by now than their best share does in all.
_LOOK = 6
_SLACK = 1.0 + 1e-5  # of scales in single precision


@dataclass(frozen=True)
class Blocks:
    """A weight in blocks, and the ends of each.

    weight: [out, groups, group] float32, the last group filled up with zeros
    low, high: [out, groups], low <= 0 <= high;  floor, ceiling: least and greatest code, floor < 0: symmetric
    """

    weight: NDArray[np.float32]
    low: Floats
    high: Floats
    floor: int
    ceiling: int

    @staticmethod
    def of(weight: NDArray[np.float32], group: int, floor: int, ceiling: int) -> Blocks:
        """weight: [out, in];  group: columns of one block, at least 1."""
        rows, columns = weight.shape
        groups = max(-(-columns // group), 1)
        filled = np.zeros((rows, groups * group), np.float32)
        filled[:, :columns] = weight
        blocks = filled.reshape(rows, groups, group)
        low, high = np.minimum(blocks.min(2), 0.0), np.maximum(blocks.max(2), 0.0)
        return Blocks(blocks, low.astype(np.float64), high.astype(np.float64), floor, ceiling)

    def rows(self, start: int, stop: int) -> Blocks:
        return replace(
            self, weight=self.weight[start:stop], low=self.low[start:stop], high=self.high[start:stop]
        )  # fmt: skip

    def column(self, group: int) -> Blocks:
        """One block of every row: [out, 1, group]."""
        at = slice(group, group + 1)
        return replace(self, weight=self.weight[:, at], low=self.low[:, at], high=self.high[:, at])

    def parameters(self, low: Floats, high: Floats) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point of blocks with these ends; a block without extent has scale 1."""
        if self.floor < 0:
            exact = np.maximum(low / self.floor, high / self.ceiling)
        else:
            exact = (high - low) / (self.ceiling - self.floor)
        scale = np.where(exact > 0, np.maximum(exact, SMALLEST_SCALE), 1.0).astype(np.float32)
        if self.floor < 0:
            return scale, np.zeros(scale.shape, np.int32)
        return scale, np.clip(np.rint(self.floor - low / scale), self.floor, self.ceiling).astype(np.int32)

    def errors(self, low: Floats, high: Floats) -> NDArray[np.float32]:
        """Rounded to the nearest on the grid with these ends, less the weight: like `weight`."""
        scale, zero = self.parameters(low, high)
        error: NDArray[np.float32] = np.rint(self.weight / scale[..., None])
        least, most = (self.floor - zero)[..., None], (self.ceiling - zero)[..., None]
        np.clip(error, least.astype(np.float32), most.astype(np.float32), out=error)
        error *= scale[..., None]
        error -= self.weight
        return error


RangeMethod = Callable[[Blocks, Floats | None], Ends]


def minmax(blocks: Blocks, importance: Floats | None) -> Ends:
    """Every weight covered."""
    return blocks.low, blocks.high


def mse(blocks: Blocks, importance: Floats | None) -> Ends:
    """minmax shrunk to the least squared error of each block: never worse than minmax."""
    return _least_errors(blocks, None)


def hessian(blocks: Blocks, importance: Floats | None) -> Ends:
    """minmax shrunk to the least squared error in which column j counts H_jj, the mean square of its input."""
    if importance is None or not np.isfinite(importance).all():
        return mse(blocks, None)
    costs = importance if importance.ndim == 1 else np.diagonal(importance)
    return _least_errors(blocks, costs)


def _least_errors(blocks: Blocks, costs: Floats | None) -> Ends:
    _, groups, group = blocks.weight.shape
    root = None
    if costs is not None and costs.any():
        filled = np.zeros(groups * group)
        filled[: len(costs)] = np.maximum(costs, 0.0) / np.max(costs)
        root = np.sqrt(filled).astype(np.float32).reshape(groups, group)
    factors = np.ones(blocks.low.shape)
    step = max(_CHUNK // (groups * group), 1)
    for start in range(0, len(factors), step):
        rows = blocks.rows(start, start + step)
        factors[start : start + step] = _best_shrink(_Columns.of(rows, root)).reshape(rows.low.shape)
    return blocks.low * factors, blocks.high * factors


@dataclass(frozen=True)
class _Columns:
    """Blocks side by side, so that a step over all of them is contiguous.

    weight: [group, blocks];  root: of what errors cost, likewise;  low, high: [blocks]
    low_root, high_root: [blocks], root of the least and of the greatest weight
    """

    codes: Blocks
    weight: NDArray[np.float32]
    root: NDArray[np.float32] | None
    low: Floats
    high: Floats
    low_root: Floats
    high_root: Floats

    @staticmethod
    def of(blocks: Blocks, root: NDArray[np.float32] | None) -> _Columns:
        weight = np.ascontiguousarray(blocks.weight.reshape(-1, blocks.weight.shape[2]).T)
        low, high = blocks.low.reshape(-1), blocks.high.reshape(-1)
        ones = np.ones(low.size)
        if root is None:
            return _Columns(blocks, weight, None, low, high, ones, ones)
        roots = np.tile(root.T, len(blocks.weight))
        columns = np.arange(low.size)
        least, greatest = roots[weight.argmin(0), columns], roots[weight.argmax(0), columns]
        return _Columns(blocks, weight, roots, low, high, least * ones, greatest * ones)

    def some(self, chosen: NDArray[np.bool_]) -> _Columns:
        root = None if self.root is None else self.root[:, chosen]
        ends = (end[chosen] for end in (self.low, self.high, self.low_root, self.high_root))
        return _Columns(self.codes, self.weight[:, chosen], root, *ends)

    def losses(self, shrink: float) -> Floats:
        """Squared error of each block, its ends shrunk."""
        scale, zero = self.codes.parameters(self.low * shrink, self.high * shrink)
        error: NDArray[np.float32] = self.weight / scale
        np.rint(error, out=error)
        np.maximum(error, (self.codes.floor - zero).astype(np.float32), out=error)
        np.minimum(error, (self.codes.ceiling - zero).astype(np.float32), out=error)
        error *= scale
        error -= self.weight
        if self.root is not None:
            error *= self.root
        exact = error.astype(np.float64)
        exact *= exact
        losses: Floats = exact.sum(0)
        return losses

    def cut(self, shrink: float) -> Floats:
        """What clipping costs the outermost weights of each block, at the least: it grows as ends shrink."""
        floor, ceiling = self.codes.floor, self.codes.ceiling
        if floor < 0:
            scale = np.maximum(self.low / floor, self.high / ceiling)
            low, high = floor * scale, ceiling * scale
        else:  # an exact zero moves the ends by half a step
            half = (self.high - self.low) / (ceiling - floor) / 2.0
            low, high = self.low - half, self.high + half
        low_error = np.maximum(low * shrink * _SLACK - self.low, 0.0) * self.low_root
        high_error = np.maximum(self.high - high * shrink * _SLACK, 0.0) * self.high_root
        cut: Floats = np.square(low_error) + np.square(high_error)
        return cut


def _best_shrink(columns: _Columns) -> Floats:
    """The largest of _SHRINK with the least error in each block: [blocks]."""
    factors, least = np.ones(columns.low.size), np.full(columns.low.size, np.inf)
    left = np.arange(columns.low.size)
    for number, shrink in enumerate(_SHRINK):
        if number % _LOOK == _LOOK - 1:
            open_ = columns.cut(shrink) < least[left]
            columns, left = columns.some(open_), left[open_]
        loss = columns.losses(shrink)
        better = loss < least[left]
        least[left[better]], factors[left[better]] = loss[better], shrink
    return factors
