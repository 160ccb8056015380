"""Scales and codes in turns: never worse, at least where no single scale or code can be improved."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.precision.solved import halved
from lwc.passes.solvers.grid import Floats, Grid, Weights, make_grid, row_losses
from lwc.passes.solvers.quantease import quantease
from lwc.passes.solvers.refit import fit_scales, refit


def layer(rows: int, columns: int, seed: int = 0) -> tuple[Weights, Floats]:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((4 * columns, columns)) @ rng.standard_normal((columns, columns))
    return rng.standard_normal((rows, columns)).astype(np.float32), inputs.T @ inputs / len(inputs)


def grid_of(weight: Weights, gram: Floats, symmetric: bool, group: int) -> Grid:
    return make_grid(weight, bits=4, symmetric=symmetric, group=group, method="hessian", importance=gram)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [16, 20, 64])
def test_no_row_is_worse_and_the_layer_is_better(symmetric: bool, group: int) -> None:
    weight, gram = layer(24, 64)
    grid = grid_of(weight, gram, symmetric, group)
    codes = quantease(weight, gram, grid)
    fitted_codes, fitted = refit(weight, gram, grid, codes, lambda scale: scale)
    before = row_losses(weight, grid.dequantize(codes), gram)
    after = row_losses(weight, fitted.dequantize(fitted_codes), gram)
    assert (after <= before * (1 + 1e-6)).all()
    assert after.sum() < 0.98 * before.sum()
    assert fitted_codes.min() >= fitted.floor
    assert fitted_codes.max() <= fitted.ceiling
    np.testing.assert_array_equal(fitted.zero, grid.zero)


def test_one_group_takes_the_scale_of_least_squares() -> None:
    weight, gram = layer(5, 12)
    grid = grid_of(weight, gram, True, 12)
    codes = grid.quantize(weight)
    fitted = fit_scales(weight.astype(np.float64), gram, grid, codes, lambda scale: scale)
    steps = codes.astype(np.float64)
    exact = np.einsum("ij,ij->i", steps @ gram, weight) / np.einsum("ij,ij->i", steps @ gram, steps)
    np.testing.assert_allclose(fitted.scale[:, 0], exact, rtol=1e-5)


def test_scales_are_such_as_can_be_stored() -> None:
    weight, gram = layer(8, 32)
    grid = grid_of(weight, gram, False, 16)
    grid = Grid(halved(grid.scale), grid.zero, grid.group, grid.floor, grid.ceiling)
    _, fitted = refit(weight, gram, grid, grid.quantize(weight), halved)
    np.testing.assert_array_equal(fitted.scale, fitted.scale.astype(np.float16).astype(np.float32))
    assert not np.array_equal(fitted.scale, grid.scale)


@pytest.mark.parametrize("gram", [np.zeros((16, 16)), np.full((16, 16), np.nan), np.full((16, 16), np.inf)])
def test_a_gram_matrix_that_says_nothing_changes_nothing(gram: Floats) -> None:
    weight, _ = layer(3, 16)
    grid = make_grid(weight, bits=4, symmetric=True, group=8)
    codes = grid.quantize(weight)
    same, kept = refit(weight, gram, grid, codes, halved)
    assert same is codes
    assert kept is grid


def test_rows_of_zeros_and_inputs_that_are_never_seen_do_no_harm() -> None:
    weight, gram = layer(4, 16)
    weight[1] = 0.0
    gram[:8], gram[:, :8] = 0.0, 0.0
    grid = grid_of(weight, gram, False, 8)
    codes, fitted = refit(weight, gram, grid, grid.quantize(weight), halved)
    assert np.isfinite(fitted.scale).all()
    assert (fitted.scale > 0.0).all()
    np.testing.assert_array_equal(fitted.dequantize(codes)[1], 0.0)
