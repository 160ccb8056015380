"""The average of several models in which every weight counts as much as it matters to its model.

    w = sum_k s_k f_k w_k / sum_k s_k f_k

Fisher merging (Matena & Raffel 2022, eq. 4) with f_k the diagonal of the Fisher information. What stands in for it here
takes no gradient: the mean square of the input that a weight multiplies, E[x_j^2], which is the Fisher information of a
linear layer with Gaussian outputs of equal variance. It is that of a weight within its layer, not between layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST = 1e-6  # of the mean importance, added to each: where no model saw anything, the plain average


def weighted_average(
    tensors: Sequence[NDArray[np.floating]], importances: Sequence[Floats], shares: Sequence[float]
) -> Floats:
    """tensors: of one shape;  importances: >= 0, each of a shape that broadcasts to it;  shares: sum > 0"""
    least = LEAST * float(np.mean([importance.mean() for importance in importances])) or 1.0
    total: Floats = np.zeros(tensors[0].shape)
    sums: Floats = np.zeros(tensors[0].shape)
    for tensor, importance, share in zip(tensors, importances, shares, strict=True):
        counted = share * (importance + least)
        total += counted
        sums += counted * np.asarray(tensor, np.float64)
    return sums / total
