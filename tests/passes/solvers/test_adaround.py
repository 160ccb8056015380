"""AdaRound: gradients of the relaxation, and what the roundings it ends with cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lwc.passes.solvers.adaround import Relaxation, adaround, logit, schedule
from lwc.passes.solvers.gptq import gptq
from lwc.passes.solvers.grid import layer_loss, make_grid, row_losses


def loss(weight, gram, grid, codes):
    return layer_loss(weight, grid.dequantize(codes), gram)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_gradient_is_that_of_the_objective(layer, progress):
    weight, gram = layer(3, 5)
    grid = make_grid(weight, bits=4, symmetric=True)
    problem = Relaxation.of(weight, gram, grid)
    at = np.random.default_rng(0).normal(size=weight.shape).astype(np.float32)
    strength, beta = schedule(progress)

    def objective(relaxed):
        share = np.clip(1.2 / (1.0 + np.exp(-relaxed)) - 0.1, 0.0, 1.0)
        steps = np.clip(problem.down + share, problem.least, problem.most)
        error = steps * problem.scale - weight.astype(np.float64)
        fit = np.einsum("ij,ij->i", error @ gram, error)[:, None] * problem.per_row
        return float(fit.sum() + strength * (1.0 - np.abs(2.0 * share - 1.0) ** beta).sum())

    slope = problem.gradient(at, progress)
    for i, j in np.ndindex(weight.shape):
        step = np.zeros(weight.shape)
        step[i, j] = 1e-4
        numeric = (objective(at + step) - objective(at - step)) / 2e-4
        assert slope[i, j] == pytest.approx(numeric, rel=1e-3, abs=1e-3 * float(np.abs(slope).max()))


def test_the_relaxation_starts_at_the_weight_and_ends_at_its_two_neighbours(layer):
    weight, gram = layer(8, 30)
    grid = make_grid(weight, bits=4, symmetric=False, group=10)
    scale, zero = grid.spread(30)
    problem = Relaxation.of(weight, gram, grid)
    assert np.array_equal(problem.codes(logit(problem.fraction)), np.clip(np.floor(weight / scale + 0.5) + zero, 0, 15))
    down, up = (problem.codes(np.full(weight.shape, v, np.float32)) for v in (-1.0, 1.0))
    assert np.array_equal(down, np.clip(np.floor(weight / scale) + zero, 0, 15))
    assert np.array_equal(up, np.clip(np.floor(weight / scale) + 1 + zero, 0, 15))


def test_it_is_near_the_best_of_all_ways_to_round_down_or_up(layer):
    ratios = []
    for seed in range(20):
        weight, gram = layer(1, 6, seed=seed)
        grid = make_grid(weight, bits=3, symmetric=True)
        scale, _ = grid.spread(6)
        down = np.clip(np.floor(weight / scale), grid.floor, grid.ceiling)
        ways = [np.minimum(down + up, grid.ceiling).astype(np.int32) for up in itertools.product((0, 1), repeat=6)]
        best = min(loss(weight, gram, grid, codes) for codes in ways)
        ratios.append(loss(weight, gram, grid, adaround(weight, gram, grid)) / best)
    assert np.median(ratios) < 1.1


def test_it_loses_less_than_half_of_nearest_where_inputs_are_correlated(layer):
    weight, gram = layer(32, 100)
    grid = make_grid(weight, bits=4, symmetric=True, group=20)
    assert loss(weight, gram, grid, adaround(weight, gram, grid)) < 0.5 * loss(
        weight, gram, grid, grid.quantize(weight)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["correlated", "one sample", "dead inputs", "equal inputs"])
def test_no_row_is_worse_than_with_gptq(layer, kind, seed):
    weight, gram = layer(24, 40, kind, seed)
    grid = make_grid(weight, bits=3, symmetric=False, group=10)
    of_gptq, found = (
        row_losses(weight, grid.dequantize(codes), gram)
        for codes in (gptq(weight, gram, grid), adaround(weight, gram, grid))
    )
    assert (found <= of_gptq * (1 + 1e-9) + 1e-9 * np.trace(gram)).all()
