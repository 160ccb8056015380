"""What makes up for the error that rounding left: biases, low-rank terms, weights kept high, refitted normalizations.

W [out, in] is the float weight, W' the rounded one, x [in] the layer's input, H = E[x x^T] its Gram matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[np.floating]


def bias_correction(weight: Array, rounded: Array, mean: Array) -> Floats:
    """(W - W') E[x]: added to the bias, it makes the mean of each output exact (Nagel et al. 2019, section 4.2).

    weight, rounded: [out, in];  mean: E[x] [in], or [out, in] where outputs have inputs of their own;  returns [out]
    """
    lost: Floats = ((np.asarray(weight, np.float64) - rounded) * np.asarray(mean, np.float64)).sum(axis=1)
    return lost


def corrected_bias(bias: Array | None, weight: Array, rounded: Array, mean: Array) -> NDArray[np.float32]:
    """The layer's bias after `bias_correction`; bias: [out], or None for a layer that has none."""
    delta = bias_correction(weight, rounded, mean)
    whole = delta if bias is None else np.asarray(bias, np.float64) + delta
    return whole.astype(np.float32)


def low_rank_correction(error: Array, gram: Floats, rank: int) -> tuple[Floats, Floats]:
    """The A B of this rank that, added to W', leaves the least: min tr((E - A B) H (E - A B)^T), E = W - W'.

        H = L L^T        E L = U diag(d) V^T        A = U_r        B = U_r^T E

    for A B L = U_r U_r^T E L is the best rank-r approximation of E L (Eckart & Young 1936). What is left is the sum of
    the other d^2. Needs no inverse of H, which may be singular. LoRC (ZeroQuant-V2, Yao et al. 2023) takes the SVD of
    E itself, that is H = I.

    error: E [out, in];  gram: H [in, in];  returns A [out, rank], B [rank, in]
    """
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    exact = np.asarray(error, np.float64)
    left = np.linalg.svd(exact @ root, full_matrices=False)[0][:, :rank]
    return left, left.T @ exact


def column_sensitivity(weight: Array, rounded: Array, gram: Floats) -> Floats:
    """H_jj ||W_j - W'_j||^2: what rounding column j costs on its own (OWQ, Lee et al. 2023). Returns [in]."""
    error = np.asarray(weight, np.float64) - rounded
    sensitivity: Floats = np.diagonal(gram) * np.square(error).sum(axis=0)
    return sensitivity


def outlier_columns(weight: Array, rounded: Array, gram: Floats, count: int) -> NDArray[np.intp]:
    """The `count` columns to keep in higher precision: those of the largest `column_sensitivity`, in order of index.

    No other choice leaves less where H is diagonal. Equal ones: the first.
    """
    order = np.argsort(-column_sensitivity(weight, rounded, gram), kind="stable")
    return np.sort(order[:count])


def super_weights(weight: Array, gram: Floats, count: int) -> NDArray[np.intp]:
    """Row and column [count, 2] of the weights whose loss would change the output most, the first one most.

    Without W_ij the output changes by E (W_ij x_j)^2 = W_ij^2 H_jj. Yu et al. 2024 look for the spikes that such
    weights make in one forward pass (the row of the greatest output, the column of the greatest input); this is the
    same product, taken over all data. Kept in float, they neither get lost nor stretch the grid of the others.
    """
    effect = np.square(np.asarray(weight, np.float64)) * np.diagonal(gram)
    order = np.argsort(-effect, axis=None, kind="stable")[: max(0, count)]
    return np.stack(np.unravel_index(order, effect.shape), axis=1)


def norm_tweaking(
    gamma: Array, beta: Array, wanted: tuple[Array, Array], found: tuple[Array, Array]
) -> tuple[Floats, Floats]:
    """A normalization refitted so that each output channel has the mean and variance it has in the float model.

        gamma' = gamma d        beta' = m + (beta - m^) d        d = sqrt(v / v^)

    Norm tweaking (Li et al. 2023) descends on |m - m^| + |v - v^|; at the normalization's own output the minimum, zero,
    has this closed form. Channels that the quantized model makes constant keep gamma.

    gamma, beta: [channels];  wanted: mean m and variance v in the float model, [channels] each;  found: m^, v^ of the
    quantized model, with the normalization as it is
    """
    (mean, variance), (found_mean, found_variance) = (
        tuple(np.asarray(moment, np.float64) for moment in pair) for pair in (wanted, found)
    )
    ratio = np.divide(variance, found_variance, out=np.ones(len(variance)), where=found_variance > 0)
    factor = np.sqrt(ratio)
    return np.asarray(gamma, np.float64) * factor, mean + (beta - found_mean) * factor
