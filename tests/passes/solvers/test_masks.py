"""Masks and their updates against all masks of a small row, textbook surgery, and what papers promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.grid import layer_loss, row_losses
from lwc.passes.solvers.mask_updates import admm, least_squares, surgeon, swapped
from lwc.passes.solvers.masks import UPDATES, masked
from lwc.passes.solvers.patterns import Blocks, NofM

PATTERNS = (NofM(2, 4), NofM(1, 4), Blocks(4, 1, 0.5), Blocks(2, 3, 0.4))
KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny", "not finite")
named = pytest.mark.parametrize("pattern", PATTERNS, ids=str)


def fits(found: np.ndarray, pattern: NofM | Blocks) -> bool:
    """Whether the zeros are at least the pattern's."""
    kept = found != 0
    if isinstance(pattern, NofM):
        starts = range(0, found.shape[1], pattern.among)
        return all((kept[:, at : at + pattern.among].sum(axis=1) <= pattern.kept).all() for at in starts)
    count = int(pattern.grid(kept.astype(float)).any(axis=(1, 3)).sum(axis=1).max())
    return count <= max(1, int(pattern.density * -(-found.shape[1] // pattern.columns) + 0.5))


@named
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", UPDATES)
def test_every_update_keeps_the_pattern_and_loses_no_more_than_plain_masking(layer, update, kind, pattern) -> None:
    weight, gram = layer(9, 14, kind)
    found = masked(weight, gram, pattern, update)
    assert fits(found, pattern)
    assert np.isfinite(found).all()
    if kind not in ("zeros", "not finite") and update != "magnitude":
        scaled = gram / gram.max()
        plain = masked(weight, gram, pattern, "none")
        assert layer_loss(weight, found, scaled) <= layer_loss(weight, plain, scaled) * (1 + 1e-9)


@named
def test_updates_that_solve_lose_much_less_than_masks_alone(layer, pattern) -> None:
    weight, gram = layer(16, 48)
    losses = {update: layer_loss(weight, masked(weight, gram, pattern, update), gram) for update in UPDATES}
    assert losses["none"] < losses["magnitude"]
    assert losses["dsnot"] < 0.9 * losses["none"]
    assert losses["obs"] < 0.9 * losses["none"]
    assert max(losses["admm"], losses["least-squares"]) < 0.9 * losses["dsnot"]
    assert losses["least-squares"] < 1.001 * losses["admm"]


def test_without_statistics_the_largest_weights_stay(layer) -> None:
    weight, _ = layer(5, 8)
    found = masked(weight, None, NofM(2, 4), "magnitude")
    for row, start in itertools.product(range(5), (0, 4)):
        part = np.abs(weight[row, start : start + 4])
        assert set(np.flatnonzero(found[row, start : start + 4])) == set(np.argsort(part)[2:])


def test_wanda_weighs_weights_by_what_they_see(layer) -> None:
    weight, _ = layer(5, 8)
    diagonal = np.geomspace(1e-3, 1e3, 8)
    found = masked(weight, np.diag(diagonal), NofM(2, 4), "none")
    scores = np.abs(weight) * np.sqrt(diagonal)
    assert np.array_equal(found != 0, NofM(2, 4).select(scores))


def test_least_squares_is_the_best_on_its_mask(layer) -> None:
    weight, gram = layer(4, 10)
    mask = np.random.default_rng(0).random((4, 10)) < 0.5
    found = least_squares(weight.astype(float), gram, mask)
    assert not found[~mask].any()
    best = np.zeros_like(found)
    for row, kept in enumerate(mask):
        best[row, kept] = np.linalg.solve(gram[np.ix_(kept, kept)], gram[kept] @ weight[row])
    assert layer_loss(weight, found, gram) == pytest.approx(layer_loss(weight, best, gram), rel=0.02)


def test_admm_ends_near_the_best_on_its_mask_and_inside_it(layer) -> None:
    weight, gram = layer(6, 20)
    mask = NofM(2, 4).select(np.abs(weight.astype(float)))
    exact = weight.astype(float)
    found, best, plain = admm(exact, gram, mask), least_squares(exact, gram, mask), np.where(mask, exact, 0.0)
    assert not found[~mask].any()
    ours, least, masked_loss = (layer_loss(exact, w, gram) for w in (found, best, plain))
    assert ours - least < 0.25 * (masked_loss - least)


def test_brain_surgery_of_one_weight_is_exact_least_squares(layer) -> None:
    """Frantar & Alistarh 2022, eq. 3: one weight leaves a row, the weights after it take over all they can."""
    weight, gram = layer(1, 4)
    exact = weight.astype(float)
    found, mask = surgeon(exact, gram, NofM(3, 4), np.ones((1, 4), bool))
    gone = int(np.flatnonzero(~mask[0])[0])
    later = np.arange(4) > gone
    damped = gram + 0.01 * np.diagonal(gram).mean() * np.eye(4)
    best = exact[0].copy()
    best[gone] = 0.0
    best[later] += np.linalg.solve(damped[np.ix_(later, later)], damped[later, gone]) * exact[0, gone]
    np.testing.assert_allclose(found[0], best, atol=1e-9)


def test_brain_surgery_chooses_by_what_weights_have_become(layer) -> None:
    """The first group's work moves to the second, whose choice is of the moved weights."""
    gram = np.eye(8) + 0.95 * (np.eye(8, k=4) + np.eye(8, k=-4))
    weight = np.array([[3.0, 2.0, 5.0, 6.0, 1.0, 0.9, 1.1, 1.2]])
    _, mask = surgeon(weight, gram, NofM(2, 4), np.ones((1, 8), bool))
    assert mask[0].tolist() == [False, False, True, True, True, True, False, False]


def test_swaps_end_where_no_swap_in_a_group_helps(layer) -> None:
    weight, gram = layer(5, 8)
    exact = weight.astype(float)
    mask = swapped(exact, gram, NofM(2, 4), NofM(2, 4).select(np.abs(exact)))
    reached = row_losses(exact, np.where(mask, exact, 0.0), gram)
    for row, group in itertools.product(range(5), (0, 4)):
        at = np.arange(group, group + 4)
        for g, p in itertools.product(at[~mask[row, at]], at[mask[row, at]]):
            other = mask[row].copy()
            other[g], other[p] = True, False
            loss = row_losses(exact[row : row + 1], np.where(other, exact[row], 0.0)[None], gram)[0]
            assert loss >= reached[row] * (1 - 1e-9)


def test_swaps_come_near_the_best_mask(layer) -> None:
    weight, gram = layer(12, 8)
    exact = weight.astype(float)
    pairs = [set(c) for c in itertools.combinations(range(4), 2)]
    masks = [np.array([k in a or k - 4 in b for k in range(8)]) for a in pairs for b in pairs]
    best = np.min([row_losses(exact, np.where(mask, exact, 0.0), gram) for mask in masks], axis=0).sum()
    none, dsnot = (layer_loss(exact, masked(exact, gram, NofM(2, 4), update), gram) for update in ("none", "dsnot"))
    assert dsnot - best < 0.3 * (none - best)


@named
def test_swaps_never_make_a_mask_worse(layer, pattern) -> None:
    for seed in range(5):
        weight, gram = layer(7, 15, seed=seed)
        exact = weight.astype(float)
        mask = pattern.select(np.random.default_rng(seed).random(weight.shape))
        moved = swapped(exact, gram, pattern, mask)
        before, after = (layer_loss(exact, np.where(m, exact, 0.0), gram) for m in (mask, moved))
        assert after < before
        assert moved.sum() == mask.sum() or isinstance(pattern, Blocks)
        assert fits(np.where(moved, 1.0, 0.0), pattern)


def test_what_cannot_be_solved_is_refused(layer) -> None:
    weight, gram = layer(4, 8)
    with pytest.raises(BadPlan, match="Gram"):
        masked(weight, None, NofM(2, 4), "obs")
    with pytest.raises(BadPlan, match="sparsegpt"):
        masked(weight, gram, NofM(2, 4), "sparsegpt")
