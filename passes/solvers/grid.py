"""The grid of codes that a weight matrix is rounded to: one scale and zero point per row and group of columns.

w' = scale * (code - zero)        code in floor .. ceiling        weight [out, in]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


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

    def quantize(self, weight: NDArray[np.floating]) -> Codes:
        """Nearest codes of a weight [out, in]."""
        scale, zero = self.spread(weight.shape[1])
        codes: Codes = np.clip(np.rint(weight / scale) + zero, self.floor, self.ceiling).astype(np.int32)
        return codes

    def dequantize(self, codes: Codes) -> Weights:
        """Weights [out, in] that the codes stand for."""
        scale, zero = self.spread(codes.shape[1])
        return (codes - zero).astype(np.float32) * scale


Rounding = Callable[[Weights, Floats, Grid], Codes]


def layer_loss(weight: Weights, rounded: Weights, gram: Floats) -> float:
    """E ||(W - W') x||^2 = tr((W - W') H (W - W')^T).  weight, rounded: [out, in];  gram: H [in, in]."""
    error = weight.astype(np.float64) - rounded
    return float(np.einsum("ij,ij->", error @ gram, error))
