"""Inputs of a layer leave: what the weights of those that stay, and the bias, take over of their work.

    y = W x        y' = W' x_K + b        loss = E ||y - y'||^2

K: inputs that are kept, R: removed ones, H = E[x x^T], mu = E[x]. For any W' the best b is W mu - W' mu_K, and what it
leaves is a matter of the covariance C = H - mu mu^T alone.

    none            W' = W_K, b = 0
    bias            W' = W_K, b = W_R mu_R                                FLAP (An et al. 2024)
    least-squares   W' = W_K + W_R C_RK C_KK^-1                           PLeaS (Nasery et al. 2024), with intercept
    obs             W' = W_K - W_R [P_RR]^-1 P_RK, b = 0, P = H^-1        Frantar & Alistarh 2022, eq. 7
    merge           W'_k = W_k + sum of a_j W_j over the j most like k    IFM; x_j ~ a_j x_k, a_j = C_jk / C_kk

Optimal brain surgery is least squares without a bias: [P_RR]^-1 P_RK = -H_RK H_KK^-1. Each row takes its method's
result only where that loses less than 'none' and 'bias' do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.moments import Floats, agreeing, solve, usable

Mask = NDArray[np.bool_]
COMPENSATIONS = ("none", "bias", "least-squares", "obs", "merge")


def refit(
    weight: NDArray[np.floating], gram: Floats | None, mean: Floats | None, kept: Mask, method: str
) -> tuple[Floats, Floats]:
    """The weight of the inputs that are kept, [out, kept], and what is added to the bias, [out].

    weight: [out, in];  gram: E[x x^T] [in, in];  mean: E[x] [in];  kept: [in];  method: a name in COMPENSATIONS
    Without a mean, or one that goes with the Gram matrix, 'least-squares' and 'merge' leave the bias alone. Where there
    is nothing to solve (a Gram matrix of zeros or of values that are not finite) only the mean is made up for.
    Raises BadPlan for an unknown method, and where it needs moments that are not there.
    """
    _check(method, gram, mean)
    exact = np.asarray(weight, np.float64)
    solver = _SOLVERS.get(method)
    if solver is not None and gram is not None and mean is not None:
        mean = agreeing(gram, mean)
    intercept = None if method in ("none", "obs") else mean
    candidates = [_with_bias(exact, exact[:, kept], kept, None)]
    if intercept is not None and not kept.all():
        candidates.append(_with_bias(exact, exact[:, kept], kept, intercept))
    if gram is None or not usable(gram) or kept.all():
        return candidates[-1]
    if solver is not None and kept.any():
        top = float(np.diagonal(gram).max())
        moments = (gram + gram.T) / (2.0 * top)
        if intercept is not None:
            moments -= np.outer(intercept, intercept) / top
        solved = solver(exact, moments, kept)
        candidates.append(_with_bias(exact, solved, kept, intercept))
    return _best_rows(exact, gram, mean, kept, candidates)


def removal_losses(
    weight: NDArray[np.floating], gram: Floats, mean: Floats | None, kept: Mask, left: Floats, shift: Floats
) -> Floats:
    """E (y - y')^2 of every output, [out].  left: W' [out, kept];  shift: b [out];  the rest as in `refit`

    Without a mean a bias is taken for what it adds on its own, b^2.
    """
    error = np.array(weight, np.float64)
    error[:, kept] -= left
    losses: Floats = np.einsum("ij,ij->i", error @ gram, error) + np.square(shift)
    if mean is not None:
        losses -= 2.0 * shift * (error @ mean)
    return losses


def _check(method: str, gram: Floats | None, mean: Floats | None) -> None:
    if method not in COMPENSATIONS:
        raise BadPlan(f"There is no compensation {method!r}.", f"Use one of {', '.join(COMPENSATIONS)}.")
    if method in _SOLVERS and gram is None:
        raise BadPlan(f"The compensation '{method}' needs the Gram matrix of the layer's input.", "Use 'bias'.")
    if method == "bias" and mean is None:
        raise BadPlan("The compensation 'bias' needs the mean of the layer's input.", "Use 'none'.")


def _with_bias(weight: Floats, left: Floats, kept: Mask, mean: Floats | None) -> tuple[Floats, Floats]:
    """A weight [out, kept] and the bias that makes the means of the outputs exact; none without a mean."""
    return left, np.zeros(len(weight)) if mean is None else weight @ mean - left @ mean[kept]


def _best_rows(
    weight: Floats, gram: Floats, mean: Floats | None, kept: Mask, candidates: list[tuple[Floats, Floats]]
) -> tuple[Floats, Floats]:
    """Each row of the candidate that loses least there; of equals the first."""
    losses = [removal_losses(weight, gram, mean, kept, left, shift) for left, shift in candidates]
    best = np.argmin(losses, axis=0)
    rows = np.arange(len(weight))
    return np.stack([left for left, _ in candidates])[best, rows], np.stack([b for _, b in candidates])[best, rows]


def explained_by(weight: Floats, moments: Floats, kept: Mask) -> Floats:
    """W_K + W_R C_RK C_KK^-1 [out, kept], damped: ridge regression towards W_K, which is never worse than W_K."""
    among, across = moments[np.ix_(kept, kept)], moments[np.ix_(kept, ~kept)]
    taken: Floats = solve(among, across @ weight[:, ~kept].T)
    return weight[:, kept] + taken.T


def _merge(weight: Floats, moments: Floats, kept: Mask) -> Floats:
    """Each removed column is added to the kept one whose multiple explains most of it: largest C_jk^2 / C_kk."""
    own = np.diagonal(moments)[kept]
    across = moments[np.ix_(~kept, kept)]
    explained = np.divide(np.square(across), own, out=np.zeros_like(across), where=own > 0.0)
    likest = explained.argmax(axis=1)
    removed = np.arange(len(across))
    shares = np.zeros_like(across)
    coefficient = across[removed, likest] / np.where(own > 0.0, own, 1.0)[likest]
    shares[removed, likest] = coefficient
    return weight[:, kept] + weight[:, ~kept] @ shares


_SOLVERS: dict[str, Callable[[Floats, Floats, Mask], Floats]] = {
    "least-squares": explained_by,
    "obs": explained_by,
    "merge": _merge,
}
