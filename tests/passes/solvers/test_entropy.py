"""Entropy and the step that lowers it."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.entropy import entropies, surer


def test_entropy_of_known_distributions() -> None:
    logits = np.array([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0], [5.0, 5.0, -1000.0, -1000.0]])
    np.testing.assert_allclose(entropies(logits), [np.log(4), 0.0, np.log(2)], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_step_lowers_the_entropy_and_stays_in_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, jacobian = rng.standard_normal((20, 5)), rng.standard_normal((4, 20, 5))
    step = surer(logits, jacobian, 0.3)
    assert np.abs(step).max() <= 0.3
    after = entropies(logits + np.tensordot(step, jacobian, 1)).mean()
    assert after < entropies(logits).mean()
    for place in range(4):  # no single coefficient does better nearby
        for move in (-1e-3, 1e-3):
            tried = step.copy()
            tried[place] = np.clip(tried[place] + move, -0.3, 0.3)
            assert entropies(logits + np.tensordot(tried, jacobian, 1)).mean() > after - 1e-6


def test_logits_that_nothing_moves_give_no_step() -> None:
    np.testing.assert_array_equal(surer(np.ones((3, 4)), np.zeros((2, 3, 4)), 1.0), [0.0, 0.0])
