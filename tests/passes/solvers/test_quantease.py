"""Coordinate descent: no single code can be improved, and outliers only help."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.passes.solvers.gptq import gptq
from lwc.passes.solvers.grid import layer_loss, make_grid, row_losses
from lwc.passes.solvers.quantease import largest_costs, quantease, quantease_outliers

KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny")
SOLVABLE = ("correlated", "one sample", "dead inputs", "equal inputs")


def losses_of_all_codes(weight, gram, grid):
    """Every combination of codes of a single row, and its loss."""
    codes = np.array(list(itertools.product(range(grid.floor, grid.ceiling + 1), repeat=weight.shape[1])))
    scale, zero = grid.spread(weight.shape[1])
    error = weight.astype(np.float64) - (codes - zero) * scale.astype(np.float64)
    return codes, np.einsum("ij,ij->i", error @ gram, error)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.sampled_from([2, 3]), st.booleans(), st.sampled_from(SOLVABLE), st.integers(0, 10**6))
def test_no_single_code_can_be_improved(layer, columns, bits, symmetric, kind, seed):
    columns = min(columns, 4) if bits == 3 else columns
    weight, gram = layer(1, columns, kind, seed)
    grid = make_grid(weight, bits=bits, symmetric=symmetric)
    codes, losses = losses_of_all_codes(weight, gram, grid)
    found = quantease(weight, gram, grid)
    loss = losses[(codes == found).all(axis=1)][0]
    neighbours = losses[(codes != found).sum(axis=1) == 1]
    assert loss <= neighbours.min() + 1e-6 * (np.trace(gram) + loss)


def test_it_is_near_the_best_of_all_codes(layer):
    ratios = []
    for seed in range(40):
        weight, gram = layer(1, 5, seed=seed)
        grid = make_grid(weight, bits=2, symmetric=False)
        codes, losses = losses_of_all_codes(weight, gram, grid)
        ratios.append(losses[(codes == quantease(weight, gram, grid)).all(axis=1)][0] / losses.min())
    assert min(ratios) == pytest.approx(1.0)
    assert np.median(ratios) < 1.1


def test_it_is_better_than_gptq(layer):
    weight, gram = layer(32, 100)
    grid = make_grid(weight, bits=4, symmetric=True, group=20)
    by_solver = [row_losses(weight, grid.dequantize(solve(weight, gram, grid)), gram) for solve in (quantease, gptq)]
    assert (by_solver[0] <= by_solver[1] * (1 + 1e-6)).all()
    assert by_solver[0].sum() < 0.99 * by_solver[1].sum()


def heavy(layer):
    """A layer of which a few weights are ten times as large."""
    weight, gram = layer(16, 40)
    weight.reshape(-1)[:: 640 // 6] *= 10.0
    return weight, gram


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 9), st.sampled_from(KINDS), st.floats(0.0, 1.0), st.integers(0, 99))
def test_outliers_are_as_few_as_asked_and_never_hurt(layer, rows, columns, kind, share, seed):
    weight, gram = layer(rows, columns, kind, seed)
    grid = make_grid(weight, bits=3, symmetric=True)
    codes, outliers = quantease_outliers(weight, gram, grid, share)
    assert len(outliers.values) <= round(share * weight.size)
    before = layer_loss(weight, grid.dequantize(quantease(weight, gram, grid)), gram)
    after = layer_loss(weight, outliers.added_to(grid.dequantize(codes)), gram)
    assert after <= before * (1 + 1e-5) + 1e-9 * np.trace(gram)


def test_one_percent_of_outliers_takes_a_third_off_the_loss_of_a_heavy_layer(layer):
    weight, gram = heavy(layer)
    rest = np.where(largest_costs(weight, np.ones(40), 7), 0.0, weight)
    grid = make_grid(rest, bits=4, symmetric=True, method="mse")
    plain = make_grid(weight, bits=4, symmetric=True, method="mse")
    codes, outliers = quantease_outliers(weight, gram, grid, 0.011)
    assert len(outliers.values) <= 7
    before = layer_loss(weight, plain.dequantize(quantease(weight, gram, plain)), gram)
    assert layer_loss(weight, outliers.added_to(grid.dequantize(codes)), gram) < 0.67 * before


def test_the_costliest_errors_are_chosen():
    errors = np.array([[1.0, -3.0], [2.0, 0.5]])
    assert largest_costs(errors, np.array([1.0, 1.0]), 2).tolist() == [[False, True], [True, False]]
    assert largest_costs(errors, np.array([1.0, 0.0]), 1).tolist() == [[False, False], [True, False]]
