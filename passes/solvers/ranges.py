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
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
# Shares of minmax that are tried, as in solvers.rounding.
_SHRINK = tuple(np.linspace(1.0, 0.3, 71).tolist())
# Weights looked at together, so that all steps of one try stay in a core's cache.
_CHUNK = 1 << 15


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
        scale = np.where(exact > 0, np.maximum(exact, _SMALLEST_SCALE), 1.0).astype(np.float32)
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
        factors[start : start + step] = _best_shrink(blocks.rows(start, start + step), root)
    return blocks.low * factors, blocks.high * factors


def _best_shrink(blocks: Blocks, root: NDArray[np.float32] | None) -> Floats:
    """The largest of _SHRINK with the least error in each block.  root: [groups, group], of the columns' costs."""
    factors, least = np.ones(blocks.low.shape), np.full(blocks.low.shape, np.inf)
    for shrink in _SHRINK:
        error = blocks.errors(blocks.low * shrink, blocks.high * shrink)
        if root is not None:
            error *= root
        loss = np.einsum("rgk,rgk->rg", error, error, dtype=np.float64)
        better = loss < least
        least[better], factors[better] = loss[better], shrink
    return factors
