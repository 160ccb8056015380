"""Task vectors summed one model at a time, each without what the sum before it already says.

    A_1 = D_1        A_t = A_(t-1) + P(D_t)        W = W_base + A_t / lambda        lambda = ||A_t|| t / sum_i ||D_i||

P leaves out of D_t what lies on the leading left and right singular vectors of A_(t-1), and of the others the pairs
(u_i, v_i), so that <A_(t-1), P(D_t)> = 0: OPCM (Tang et al. 2025, eq. 5-8; norms are over all parameters). Only A and
the sum of norms are kept, whatever the number of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEADING = 0.5  # alpha: share of the sum of singular values whose vectors are leading


def add_projected(total: Floats, change: Floats, leading: float = LEADING) -> Floats:
    """A_t of A_(t-1) and D_t, [out, in] each."""
    return total + orthogonal_part(total, change, leading)


def orthogonal_part(total: Floats, change: Floats, leading: float = LEADING) -> Floats:
    """P(D).  total: A, all zeros leave D as it is;  leading: alpha, in [0, 1)"""
    left, values, right = np.linalg.svd(total, full_matrices=False)
    if not values.size or values[0] == 0.0:
        return change
    known = values > values[0] * np.finfo(np.float64).eps * max(total.shape)
    rank = min(int(np.argmax(np.cumsum(values) > leading * values.sum())), int(known.sum()))
    head_left, head_right = left[:, :rank], right[:rank]
    tail_left, tail_right = left[:, rank:][:, known[rank:]], right[rank:][known[rank:]]
    paired = np.einsum("oi,oi->i", tail_left, change @ tail_right.T)
    block = head_left @ (head_left.T @ change @ head_right.T) @ head_right
    found: Floats = change - block - (tail_left * paired) @ tail_right
    return found
