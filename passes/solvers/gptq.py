"""GPTQ: columns are rounded one by one, and those still to come take over each one's error.

Frantar et al. 2022, eq. 2-3 in the Cholesky form of their algorithm 1. With U the upper factor of the inverse,
H^-1 = U^T U, column j is rounded to q_j and

    e_j = (w_j - q_j) / U_jj        w_k = w_k - sum over j < k of e_j U_jk

Columns are taken in the order of falling H_jj ('activation order'). Groups are static: the grid is fixed before,
so a column keeps the scale of the place where it stands.
"""

from __future__ import annotations

import numpy as np

from lwc.passes.solvers.grid import Codes, Floats, Grid, Weights
from lwc.passes.solvers.guard import never_worse_than_nearest

# Share of the mean diagonal that is added to the diagonal, as in the paper; ten times as much where that fails.
_DAMPING = 0.01
# Columns that take over the errors of all before them by one matrix product, and each other's one by one.
_BLOCK = 64
# Below this size, LAPACK inverts a triangle as fast as products of its parts do.
_SMALL = 64


@never_worse_than_nearest
def gptq(weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Codes [out, in] on the grid.  weight: [out, in];  gram: [in, in].

    Inputs that are always zero have no say: their weights are rounded to the nearest.
    """
    order = np.argsort(-np.diagonal(gram), kind="stable")
    shares = np.ascontiguousarray(inverse_factor(gram[np.ix_(order, order)]).T)
    # Transposed, so that a column of the weight is contiguous.
    left = weight.T[order].astype(np.float64)
    scale, zero = grid.spread(weight.shape[1])
    scales = np.ascontiguousarray(scale.T[order], np.float64)
    zeros = np.ascontiguousarray(zero.T[order], np.float64)
    errors = np.empty_like(left)
    codes = np.empty(left.shape, np.int32)
    for start in range(0, len(left), _BLOCK):
        stop = min(start + _BLOCK, len(left))
        left[start:stop] -= shares[start:stop, :start] @ errors[:start]
        for j in range(start, stop):
            value = left[j] - shares[j, start:j] @ errors[start:j]
            code = np.minimum(np.maximum(np.rint(value / scales[j]) + zeros[j], grid.floor), grid.ceiling)
            codes[j] = code
            errors[j] = (value - (code - zeros[j]) * scales[j]) / shares[j, j]
    result = np.empty(weight.shape, np.int32)
    result[:, order] = codes.T
    return result


def inverse_factor(gram: Floats) -> Floats:
    """U, upper triangular, with U^T U = (H + damping)^-1.  gram: H [in, in], positive semi-definite, some diagonal > 0.

    With J the exchange of first and last:  J H J = L L^T,  R = J L J is upper and R R^T = H,  U = R^-1.
    Rows and columns of inputs that are always zero are those of the identity. Where rounding errors leave the
    matrix indefinite, the damping grows until it is not.
    """
    diagonal = np.diagonal(gram)
    dead = diagonal <= 0.0
    damped = np.where(dead[:, None] | dead, 0.0, gram)
    mean = float(diagonal[~dead].mean())
    damping = _DAMPING * mean
    while True:
        shifted = damped + np.diag(np.where(dead, 1.0, damping))
        try:
            lower = np.linalg.cholesky(shifted[::-1, ::-1])
        except np.linalg.LinAlgError:
            damping *= 10.0
            continue
        return _inverse_of_upper(lower[::-1, ::-1])


def _inverse_of_upper(upper: Floats) -> Floats:
    """In halves:  [[A, B], [0, D]]^-1 = [[A^-1, -A^-1 B D^-1], [0, D^-1]]."""
    size = len(upper)
    if size <= _SMALL:
        return np.triu(np.linalg.inv(upper))
    half = size // 2
    inverse = np.zeros_like(upper)
    inverse[:half, :half] = _inverse_of_upper(upper[:half, :half])
    inverse[half:, half:] = _inverse_of_upper(upper[half:, half:])
    inverse[:half, half:] = -inverse[:half, :half] @ upper[:half, half:] @ inverse[half:, half:]
    return inverse
