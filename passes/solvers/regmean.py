"""One weight that answers what each of several did, on the inputs that each of them saw.

    min_W  sum_k s_k E || W x_k - W_k x_k ||^2
    W = (sum_k s_k W_k G_k) (sum_k s_k G_k)^-1        G_k = E[x_k x_k^T]

RegMean (Jin et al. 2023, eq. 2). Off the diagonal every G_k is shrunk, as there (section 4.2): inputs that occur
together are then told apart less, and the solution stays closer to an average weighted by the size of inputs. What
differs: a share of the mean diagonal draws W to the plain average, so that columns nobody saw are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.moments import Floats, solve, usable

SHRINK = 0.9  # off the diagonal: what Jin et al. 2023 found best for most models (0.1 for T5)
_TOWARD_AVERAGE = 1e-6  # of the mean diagonal


def regmean(
    weights: Sequence[NDArray[np.floating]], grams: Sequence[Floats], shares: Sequence[float], shrink: float = SHRINK
) -> Floats:
    """Weights [out, in] of every model as one.  grams: [in, in] each;  shares: how much each counts, sum > 0

    shrink: factor of what is off the diagonal, 0 .. 1. Where nothing is known of the inputs, the average.
    """
    exact = [np.asarray(weight, np.float64) for weight in weights]
    mean = _average(exact, shares)
    total, pulled = np.zeros_like(grams[0]), np.zeros_like(mean)
    for weight, gram, share in zip(exact, grams, shares, strict=True):
        counted = share * shrunk(gram, shrink)
        total += counted
        pulled += (weight - mean) @ counted
    if not usable(total) or not np.isfinite(pulled).all():
        return mean
    return mean + solve((total + total.T) / 2.0, pulled.T, _TOWARD_AVERAGE).T


def shrunk(gram: Floats, shrink: float) -> Floats:
    """The Gram matrix with all but its diagonal times `shrink`."""
    found: Floats = gram * shrink
    np.fill_diagonal(found, np.diagonal(gram))
    return found


def _average(weights: Sequence[Floats], shares: Sequence[float]) -> Floats:
    total: Floats = np.sum([share * weight for share, weight in zip(shares, weights, strict=True)], axis=0)
    return total / sum(shares)
