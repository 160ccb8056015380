"""GPTQ against the textbook: one column at a time, with the inverse of what is left."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.gptq import gptq, inverse_factor
from lwc.passes.solvers.grid import layer_loss, make_grid, row_losses


def textbook(weight, gram, grid):
    """Optimal brain quantization in the order of falling diagonals: no factors, no blocks."""
    order = np.argsort(-np.diagonal(gram), kind="stable")
    inverse = np.linalg.inv((gram + 0.01 * np.diagonal(gram).mean() * np.eye(len(gram)))[np.ix_(order, order)])
    left, codes = weight.astype(np.float64)[:, order], np.empty(weight.shape, np.int32)
    for j, column in enumerate(order):
        scale, zero = grid.of_column(column)
        scale = scale.astype(np.float64)
        codes[:, column] = np.clip(np.rint(left[:, j] / scale) + zero, grid.floor, grid.ceiling)
        error = (left[:, j] - (codes[:, column] - zero) * scale) / inverse[0, 0]
        left[:, j + 1 :] -= np.outer(error, inverse[0, 1:])
        inverse = inverse[1:, 1:] - np.outer(inverse[1:, 0], inverse[0, 1:]) / inverse[0, 0]
    return codes


@pytest.mark.parametrize(("columns", "group"), [(7, 0), (7, 3), (150, 32)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_is_the_textbook_algorithm(layer, columns, group, symmetric):
    weight, gram = layer(20, columns)
    grid = make_grid(weight, bits=4, symmetric=symmetric, group=group)
    expected = textbook(weight, gram, grid)
    by_book, by_nearest = (
        row_losses(weight, grid.dequantize(codes), gram) for codes in (expected, grid.quantize(weight))
    )
    kept = by_book < by_nearest
    assert kept.sum() >= 5
    assert np.array_equal(gptq(weight, gram, grid)[kept], expected[kept])
    assert np.array_equal(gptq(weight, gram, grid)[~kept], grid.quantize(weight)[~kept])


def test_it_loses_less_than_half_of_nearest_where_inputs_are_correlated(layer):
    weight, gram = layer(32, 100)
    grid = make_grid(weight, bits=4, symmetric=True, group=20)
    nearest = layer_loss(weight, grid.dequantize(grid.quantize(weight)), gram)
    assert layer_loss(weight, grid.dequantize(gptq(weight, gram, grid)), gram) < 0.5 * nearest


def test_inputs_that_do_not_correlate_are_rounded_to_the_nearest(layer):
    weight, _ = layer(8, 10)
    grid = make_grid(weight, bits=3, symmetric=True)
    assert np.array_equal(gptq(weight, np.diag(np.arange(10.0)), grid), grid.quantize(weight))


def test_weights_of_dead_inputs_are_rounded_to_the_nearest(layer):
    weight, gram = layer(8, 10, "dead inputs")
    grid = make_grid(weight, bits=3, symmetric=True, group=5)
    assert np.array_equal(gptq(weight, gram, grid)[:, ::2], grid.quantize(weight)[:, ::2])


def test_the_factor_is_of_the_inverse(layer):
    _, gram = layer(1, 200)
    factor = inverse_factor(gram)
    damped = gram + 0.01 * np.diagonal(gram).mean() * np.eye(200)
    assert np.array_equal(factor, np.triu(factor))
    assert factor.T @ factor @ damped == pytest.approx(np.eye(200), abs=1e-8)


def test_damping_grows_until_an_indefinite_matrix_has_a_factor():
    gram = np.array([[1.0, 3.0], [3.0, 1.0]])
    factor = inverse_factor(gram)
    assert factor.T @ factor @ (gram + 10.0 * np.eye(2)) == pytest.approx(np.eye(2))
