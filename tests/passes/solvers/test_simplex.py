"""Climbing on weights: against a grid of all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lwc.passes.solvers.simplex import Weights, climb


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_best_of_a_concave_score(seed: int) -> None:
    best = np.random.default_rng(seed).dirichlet(np.ones(3))
    found = climb(lambda weights: -float(np.square(np.array(weights) - best).sum()), (1.0, 0.0, 0.0))
    grid = [w for w in product(np.linspace(0, 1, 17), repeat=3) if abs(sum(w) - 1) < 1e-9]
    least = min(float(np.square(np.array(w) - best).sum()) for w in grid)
    assert float(np.square(np.array(found) - best).sum()) <= least + 1e-9


def test_never_leaves_the_simplex_nor_scores_less_than_the_start() -> None:
    rng = np.random.default_rng(0)
    scores: dict[Weights, float] = {}

    def score(weights: Weights) -> float:
        assert abs(sum(weights) - 1.0) < 1e-9
        assert min(weights) >= 0.0
        return scores.setdefault(weights, float(rng.random()))

    start = (0.5, 0.0, 0.5)
    assert score(climb(score, start)) == max(scores.values()) >= scores[start]


def test_a_flat_score_leaves_the_start() -> None:
    assert climb(lambda weights: 0.0, (0.25, 0.75)) == (0.25, 0.75)
