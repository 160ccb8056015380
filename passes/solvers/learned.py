"""Learned clipping: the ends of each block, moved to the least layer objective tr(E H E^T) of nearest rounding.

Omniquant (Shao et al. 2023) learns clipping by gradient; here each end is searched, one block after the other,
which needs no relaxation. With the errors e of all other blocks of a row fixed, block g costs

    e_g H_gg e_g^T + 2 e_g r_g^T        r_g = sum over h != g of e_h H_hg
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.ranges import Blocks, Ends, Floats, hessian

# What the ends are multiplied by, in rounds from coarse to fine.
_ROUNDS = (
    (0.7, 0.8, 0.9, 1.1, 1.2),
    (0.94, 0.97, 1.03, 1.06),
    (0.98, 0.99, 1.01, 1.02),
)


def learned(blocks: Blocks, importance: Floats | None) -> Ends:
    """Least layer objective after nearest rounding, from the Hessian's ends on: never worse than these.

    importance: H [in, in]; of its diagonal alone, [in], it makes what `hessian` makes
    """
    low, high = hessian(blocks, importance)
    if importance is None or importance.ndim == 1 or not np.diagonal(importance).any():
        return low, high
    gram = _filled(importance, blocks.weight.shape[1] * blocks.weight.shape[2])
    error = blocks.errors(low, high).reshape(len(low), len(gram)).astype(np.float64)
    product = error @ gram
    group = blocks.weight.shape[2]
    for factors in _ROUNDS:
        for at in range(blocks.weight.shape[1]):
            columns = slice(at * group, (at + 1) * group)
            square = gram[columns, columns]
            rest = product[:, columns] - error[:, columns] @ square
            ends, new = _search(blocks.column(at), (low[:, at], high[:, at]), factors, square, rest)
            product += (new - error[:, columns]) @ gram[columns]
            low[:, at], high[:, at] = ends
            error[:, columns] = new
    return low, high


def _search(
    block: Blocks, ends: Ends, factors: tuple[float, ...], square: Floats, rest: Floats
) -> tuple[Ends, NDArray[np.float64]]:
    """The best ends of one block of every row among those tried, and its error.

    ends: [out] each;  square: H_gg [group, group];  rest: r_g [out, group];  returns an error [out, group]
    """
    sides = ((True, True),) if block.floor < 0 else ((True, True), (True, False), (False, True))
    low, high = ends[0].copy(), ends[1].copy()
    error = _error(block, low, high)
    least = _cost(error, square, rest)
    for move_low, move_high in sides:
        start_low, start_high = low.copy(), high.copy()
        for factor in factors:
            tried_low = start_low * factor if move_low else start_low
            tried_high = start_high * factor if move_high else start_high
            tried = _error(block, tried_low, tried_high)
            cost = _cost(tried, square, rest)
            better = cost < least
            low[better], high[better] = tried_low[better], tried_high[better]
            least[better], error[better] = cost[better], tried[better]
    return (low, high), error


def _error(block: Blocks, low: Floats, high: Floats) -> Floats:
    return block.errors(low[:, None], high[:, None])[:, 0].astype(np.float64)


def _cost(error: Floats, square: Floats, rest: Floats) -> Floats:
    cost: Floats = np.einsum("ij,ij->i", error @ square + 2.0 * rest, error)
    return cost


def _filled(gram: Floats, size: int) -> Floats:
    """The Gram matrix scaled to diagonals of at most 1, with zeros for the columns that fill the last block."""
    filled = np.zeros((size, size))
    filled[: len(gram), : len(gram)] = gram / max(float(np.max(np.diagonal(gram))), np.finfo(np.float64).tiny)
    return filled
