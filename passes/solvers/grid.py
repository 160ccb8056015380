"""The grid of codes that a weight matrix is rounded to: one scale and zero point per row and group of columns.

w' = scale * (code - zero)        code in floor .. ceiling        weight [out, in]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.learned import learned
from lwc.passes.solvers.ranges import Blocks, RangeMethod, hessian, minmax, mse

Weights = NDArray[np.float32]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

REFIT = "refit"  # the Hessian's ends to begin with; scales are fitted to the codes afterwards (solvers.refit)
RANGES: tuple[tuple[str, RangeMethod], ...] = (
    ("minmax", minmax),
    ("mse", mse),
    ("hessian", hessian),
    ("learned", learned),
    (REFIT, hessian),
)


@dataclass(frozen=True)
class Grid:
    """scale, zero: [out, groups];  group: columns that share a scale, the last group may be narrower.

    floor, ceiling: least and greatest code
    """

    scale: NDArray[np.float32]
    zero: NDArray[np.int32]
    group: int
    floor: int
    ceiling: int

    def of_column(self, column: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point of each row in one column: [out], [out]."""
        return self.scale[:, column // self.group], self.zero[:, column // self.group]

    def spread(self, columns: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point of every weight: [out, columns] each."""
        scale = np.repeat(self.scale, self.group, axis=1)[:, :columns]
        zero = np.repeat(self.zero, self.group, axis=1)[:, :columns]
        return scale, zero

    def rows(self, chosen: slice | NDArray[np.intp]) -> Grid:
        """The grid of some rows."""
        return replace(self, scale=self.scale[chosen], zero=self.zero[chosen])

    def quantize(self, weight: NDArray[np.floating]) -> Codes:
        """Nearest codes of a weight [out, in]."""
        scale, zero = self.spread(weight.shape[1])
        codes: Codes = np.clip(np.rint(weight / scale) + zero, self.floor, self.ceiling).astype(np.int32)
        return codes

    def dequantize(self, codes: Codes) -> Weights:
        """Weights [out, in] that the codes stand for."""
        scale, zero = self.spread(codes.shape[1])
        return (codes - zero).astype(np.float32) * scale


def stacked(grids: Sequence[Grid]) -> Grid:
    """One grid of all rows, in order, of grids that differ in nothing else. At least one."""
    scale, zero = np.concatenate([grid.scale for grid in grids]), np.concatenate([grid.zero for grid in grids])
    return replace(grids[0], scale=scale, zero=zero)


def code_limits(bits: int, symmetric: bool, reduce_range: bool = False) -> tuple[int, int]:
    """Least and greatest code.

    8 bits symmetric: +-127, which kernels multiply fastest (ONNX Runtime's u8s8), +-64 with reduce_range. Fewer
    bits: -2^(bits-1) .. 2^(bits-1) - 1. Of 4 bits, -8 .. 7 against -7 .. 7 is one more code, which the row or group
    whose largest weight is negative spends on an eighth less step: squared error of nearest rounding in groups of
    32 normal weights -10 %, by minmax as by mse. Asymmetric: from 0. reduce_range matters to 8 bits alone, as
    smaller products fit their sums anyway.
    """
    reduced = reduce_range and bits == 8
    if not symmetric:
        return 0, (1 << (bits - reduced)) - 1
    if bits == 8:
        return (-64, 64) if reduced else (-127, 127)
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def make_grid(
    weight: NDArray[np.floating],
    *,
    bits: int,
    symmetric: bool,
    group: int = 0,
    method: str = "minmax",
    importance: Floats | None = None,
    reduce_range: bool = False,
) -> Grid:
    """The grid of a weight [out, in].

    bits: 2 to 8;  group: columns that share a scale, 0 for all of a row
    method: a name in RANGES. Raises BadPlan
    importance: what errors cost, for 'hessian', 'refit' and 'learned': the Gram matrix [in, in], of which all but
        'learned' read the diagonal, or that diagonal [in], on which 'learned' does what 'hessian' does. None: as 'mse'
    reduce_range: codes that sums of 16 bits cannot overflow on
    """
    found = dict(RANGES).get(method)
    if found is None:
        raise BadPlan(f"There is no weight range {method!r}.", f"Use one of {', '.join(name for name, _ in RANGES)}.")
    values = np.asarray(weight, np.float32)
    group = group or max(values.shape[1], 1)
    blocks = Blocks.of(values, group, *code_limits(bits, symmetric, reduce_range))
    scale, zero = blocks.parameters(*found(blocks, importance))
    return Grid(scale, zero, group, blocks.floor, blocks.ceiling)


Rounding = Callable[[Weights, Floats, Grid], Codes]


def layer_loss(weight: Weights, rounded: Weights, gram: Floats) -> float:
    """E ||(W - W') x||^2 = tr((W - W') H (W - W')^T).  weight, rounded: [out, in];  gram: H [in, in]."""
    return float(row_losses(weight, rounded, gram).sum())


def row_losses(weight: NDArray[np.floating], rounded: NDArray[np.floating], gram: Floats) -> Floats:
    """What each row adds to the layer's loss, [out]: rows do not depend on each other."""
    error = weight.astype(np.float64) - rounded
    losses: Floats = np.einsum("ij,ij->i", error @ gram, error)
    return losses
