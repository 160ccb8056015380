"""The weights that a mask leaves, solved again; and masks that are found, or moved, with their weights.

W [out, in] is the weight, W' the masked one, H [in, in] the moments of the input; loss = tr((W - W') H (W - W')^T).
"""

from __future__ import annotations

import numpy as np

from lwc.passes.solvers.gptq import inverse_factor
from lwc.passes.solvers.moments import Floats, damped
from lwc.passes.solvers.patterns import Blocks, Mask, NofM, Pattern
from lwc.passes.solvers.removal import explained_by

# Turns of ADMM, and its penalty where moments have a diagonal of 1: Boza 2024, section 4.
_TURNS = 20
_PENALTY = 1.0
# Sweeps over all groups of a mask; a band of blocks makes as many swaps.
_SWEEPS = 4
_SWAPS = 64


def least_squares(weight: Floats, moments: Floats, mask: Mask) -> Floats:
    """The best weights on a mask, row by row; rows of one mask together.  returns [out, in]"""
    found = np.zeros_like(weight)
    kinds, kind = np.unique(mask, axis=0, return_inverse=True)
    for number, kept in enumerate(kinds):
        rows = np.flatnonzero(kind.reshape(-1) == number)
        if kept.all() or not kept.any():
            found[rows] = np.where(kept, weight[rows], 0.0)
        else:
            found[np.ix_(rows, kept)] = explained_by(weight[rows], moments, kept)
    return found


def admm(weight: Floats, moments: Floats, mask: Mask) -> Floats:
    """The same in turns, with one inverse for all rows (Boza 2024, algorithm 1).

        W = (H + rho I)^-1 (H W_0 + rho (Z - U))        Z = mask (W + U)        U = U + W - Z

    in inputs scaled to a second moment of 1.  returns Z [out, in]
    """
    unit = np.sqrt(np.diagonal(moments))
    unit = np.where(unit > 0.0, unit, 1.0)
    scaled = moments / np.outer(unit, unit)
    exact = weight * unit
    inverse = np.linalg.inv(damped(scaled) + _PENALTY * np.eye(len(scaled)))
    target = exact @ scaled
    kept = np.where(mask, exact, 0.0)
    dual = np.zeros_like(exact)
    for _ in range(_TURNS):
        free = (target + _PENALTY * (kept - dual)) @ inverse
        kept = np.where(mask, free + dual, 0.0)
        dual += free - kept
    return kept / unit


def surgeon(weight: Floats, moments: Floats, pattern: Pattern, mask: Mask) -> tuple[Floats, Mask]:
    """Column by column, those to come take over what leaves; SparseGPT (Frantar & Alistarh 2023, algorithm 1).

    N of M are chosen when their turn comes, by w^2 / U_jj^2 of the weights as they are then; blocks stay as in `mask`.
    returns W' [out, in] and its mask
    """
    factor = inverse_factor(moments)
    own = np.diagonal(factor)
    left, chosen = weight.copy(), mask.copy()
    step = pattern.among if isinstance(pattern, NofM) else pattern.columns
    for start in range(0, left.shape[1], step):
        stop = min(start + step, left.shape[1])
        if isinstance(pattern, NofM):
            chosen[:, start:stop] = pattern.select(np.square(left[:, start:stop] / own[start:stop]))
        errors = np.zeros((len(left), stop - start))
        for j in range(start, stop):
            error = np.where(chosen[:, j], 0.0, left[:, j] / own[j])
            left[:, j:stop] -= np.outer(error, factor[j, j:stop])
            errors[:, j - start] = error
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return np.where(chosen, left, 0.0), chosen


def swapped(weight: Floats, moments: Floats, pattern: Pattern, mask: Mask) -> Mask:
    """Weights that left come back for others of their group, where the loss falls; the weights stay as they are.

    DSnoT (Zhang et al. 2023) judges by mean and variance of each input what a swap does to the expected error; the Gram
    matrix tells it exactly. With e the row of what left, growing g and pruning p adds

        w_g^2 H_gg - 2 w_g (H e)_g + w_p^2 H_pp + 2 w_p (H e)_p - 2 w_g w_p H_gp
    """
    found = mask.copy()
    if isinstance(pattern, NofM):
        _swap_weights(weight, moments, pattern.among, found)
    else:
        _swap_blocks(weight, moments, pattern, found)
    return found


def _swap_weights(weight: Floats, moments: Floats, among: int, mask: Mask) -> None:
    """Group after group, each row its best swap; sweeps until nothing moves."""
    felt = np.where(mask, 0.0, weight) @ moments
    own = np.square(weight) * np.diagonal(moments)
    rows = np.arange(len(weight))
    for _ in range(_SWEEPS):
        moved = False
        for start in range(0, weight.shape[1], among):
            at = slice(start, min(start + among, weight.shape[1]))
            part, stays = weight[:, at], mask[:, at]
            grow = np.where(stays, np.inf, own[:, at] - 2.0 * part * felt[:, at])
            prune = np.where(stays, own[:, at] + 2.0 * part * felt[:, at], np.inf)
            cross = 2.0 * part[:, :, None] * part[:, None, :] * moments[at, at]
            change = grow[:, :, None] + prune[:, None, :] - cross
            best = change.reshape(len(weight), -1).argmin(axis=1)
            g, p = np.unravel_index(best, change.shape[1:])
            better = change[rows, g, p] < -1e-12 * own[:, at].sum(axis=1)
            if not better.any():
                continue
            moved = True
            which = rows[better]
            difference = np.zeros((len(which), change.shape[1]))
            each = np.arange(len(which))
            difference[each, g[better]] = -part[which, g[better]]
            difference[each, p[better]] = part[which, p[better]]
            mask[which, start + g[better]] = True
            mask[which, start + p[better]] = False
            felt[which] += difference @ moments[at]
        if not moved:
            return


def _swap_blocks(weight: Floats, moments: Floats, pattern: Blocks, mask: Mask) -> None:
    """Each band exchanges the block that is worth most for the one worth least, while its loss falls."""
    blocks, columns = pattern.grid(weight), pattern.columns
    bands, height, across, _ = blocks.shape
    padded = np.zeros((across * columns,) * 2)
    padded[: len(moments), : len(moments)] = moments
    own = padded.reshape(across, columns, across, columns)[np.arange(across), :, np.arange(across)]
    worth = np.einsum("brac,acd,brad->ba", blocks, own, blocks)
    stays: Mask = pattern.grid(mask.astype(np.float64)).max(axis=(1, 3)) > 0.0
    each = np.arange(bands)
    for _ in range(_SWAPS):
        gone = np.where(stays[:, None, :, None], 0.0, blocks).reshape(bands * height, -1)
        felt = (gone @ padded).reshape(blocks.shape)
        slope = 2.0 * np.einsum("brac,brac->ba", blocks, felt)
        grow, prune = np.where(stays, np.inf, worth - slope), np.where(stays, worth + slope, np.inf)
        g, p = grow.argmin(axis=1), prune.argmin(axis=1)
        between = padded.reshape(across, columns, across, columns)[g, :, p]
        cross = 2.0 * np.einsum("brc,bcd,brd->b", blocks[each, :, g], between, blocks[each, :, p])
        better = grow[each, g] + prune[each, p] - cross < -1e-12 * worth.sum(axis=1)
        if not better.any():
            break
        stays[each[better], g[better]] = True
        stays[each[better], p[better]] = False
    mask[:] = pattern.spread(stays, weight.shape)
