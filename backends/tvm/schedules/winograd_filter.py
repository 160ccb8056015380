"""Winograd's minimal filtering F(m x m, 3 x 3) as matrices: Lavin and Gray, Fast Algorithms for CNNs (2016), eq. 8.

    y = A^T [(G g G^T) * (B^T d B)] A      d [m + 2, m + 2], g [3, 3], y [m, m]

Made by Toom and Cook's interpolation at a few points and at infinity. Points come in pairs p, -p, whose rows share the
even and the odd half of their sums: A^T and B^T are given as two factors, one of them adding and subtracting pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

TAPS = 3
# Small ones lose the fewest digits (Barabasz et al., Error analysis and improving the accuracy of Winograd, 2018).
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 2.0, -2.0)}


@dataclass(frozen=True)
class Filter:
    """weight: G [a, 3];  data: factors of B^T [a, a], the last is applied first;  out: factors of A^T [m, a]"""

    weight: Matrix
    data: tuple[Matrix, Matrix]
    out: tuple[Matrix, Matrix]


@lru_cache
def minimal(size: int) -> Filter:
    """The matrices for tiles of size x size outputs."""
    points = POINTS[size]
    pairs = _pairs(points)
    others = [[q for q in points if q != p] for p in points]
    scales = [float(np.prod([p - q for q in rest])) for p, rest in zip(points, others, strict=True)]
    infinity = [0.0] * (TAPS - 1) + [1.0]
    weight = [[p**k / scale for k in range(TAPS)] for p, scale in zip(points, scales, strict=True)]
    data = [[*np.poly(rest)[::-1], 0.0] for rest in others]
    out = [[p**k for p in points] + [float(k == size - 1)] for k in range(size)]
    inverse = np.linalg.inv(pairs)
    return Filter(
        np.array([*weight, infinity]),
        (pairs, inverse @ np.array([*data, np.poly(points)[::-1]])),
        (np.array(out) @ inverse, pairs),
    )  # fmt: skip


def _pairs(points: Sequence[float]) -> Matrix:
    """Sum and difference of neighbours p, -p; what belongs to other points and to infinity as it is."""
    matrix = np.eye(len(points) + 1)
    for k, (p, q) in enumerate(pairwise(points)):
        if p == -q != 0:
            matrix[k : k + 2, k : k + 2] = [[1, 1], [1, -1]]
    return matrix
