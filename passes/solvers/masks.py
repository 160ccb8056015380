"""Weights set to zero in a pattern, and those that are left solved again, by one of UPDATES.

    magnitude       the least |W_ij| leave; needs no statistics
    none            the least |W_ij| sqrt(H_jj) leave                                          Wanda, Sun et al. 2023
    dsnot           as 'none', then weights that left come back for others                     Zhang et al. 2023
    admm            as 'dsnot', and the weights left are solved again, in turns                Boza 2024
    least-squares   as 'dsnot', and the weights left are solved again, each row exactly
    obs             column by column, those to come take over                                  SparseGPT, Frantar 2023

Each row (of blocks, band of rows) of the last four takes its result only where that loses less than 'none'.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.grid import row_losses
from lwc.passes.solvers.mask_updates import admm, least_squares, surgeon, swapped
from lwc.passes.solvers.moments import Floats, usable
from lwc.passes.solvers.patterns import Blocks, Mask, Pattern

MAGNITUDE, NONE = "magnitude", "none"
UPDATES = (MAGNITUDE, NONE, "dsnot", "admm", "least-squares", "obs")


def masked(weight: NDArray[np.floating], moments: Floats | None, pattern: Pattern, update: str) -> Floats:
    """The weight [out, in] with zeros in the pattern.

    moments: [in, in], what errors cost: E[x x^T], or the covariance where the bias takes over the mean of the error;
        where there is nothing to solve with them, as 'magnitude'
    update: a name in UPDATES.  Raises BadPlan for another, and when it needs moments and there are none.
    """
    if update not in UPDATES:
        raise BadPlan(f"There is no update of masked weights {update!r}.", f"Use one of {', '.join(UPDATES)}.")
    if update != MAGNITUDE and moments is None:
        raise BadPlan(f"The update '{update}' needs the Gram matrix of the layer's input.", f"Use '{MAGNITUDE}'.")
    exact = np.asarray(weight, np.float64)
    if update == MAGNITUDE or moments is None or not usable(moments):
        return np.where(pattern.select(np.abs(exact)), exact, 0.0)
    scaled = moments / np.diagonal(moments).max()
    mask = pattern.select(np.abs(exact) * np.sqrt(np.maximum(np.diagonal(scaled), 0.0)))
    plain = np.where(mask, exact, 0.0)
    if update == NONE:
        return plain
    if update == "obs":
        found, _ = surgeon(exact, scaled, pattern, mask)
    else:
        mask = swapped(exact, scaled, pattern, mask)
        solver = {"admm": admm, "least-squares": least_squares}.get(update)
        found = np.where(mask, exact, 0.0) if solver is None else solver(exact, scaled, mask)
    return np.where(_falls(exact, found, plain, scaled, pattern)[:, None], found, plain)


def _falls(weight: Floats, found: Floats, plain: Floats, moments: Floats, pattern: Pattern) -> Mask:
    """Rows [out] where `found` loses less than `plain`; all rows of a band or none, as they share blocks."""
    change = row_losses(weight, found, moments) - row_losses(weight, plain, moments)
    height = pattern.rows if isinstance(pattern, Blocks) else 1
    bands = np.add.reduceat(change, np.arange(0, len(change), height))
    return np.repeat(bands < 0.0, height)[: len(change)]
