"""Against least squares on the data themselves, stacked."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.regmean import regmean, shrunk

OUT, IN = 5, 7


def problem(seed: int, models: int, rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights [OUT, IN] and inputs [rows, IN] whose columns go together, in each model in another way."""
    rng = np.random.default_rng(seed)
    mixes = [rng.standard_normal((IN, IN)) for _ in range(models)]
    inputs = [rng.standard_normal((rows, IN)) @ mix for mix in mixes]
    return [rng.standard_normal((OUT, IN)) for _ in range(models)], inputs


def grams(inputs: list[np.ndarray]) -> list[np.ndarray]:
    return [x.T @ x / len(x) for x in inputs]


@pytest.mark.parametrize("seed", range(3))
def test_is_the_least_squares_solution_of_all_data_together(seed: int) -> None:
    weights, inputs = problem(seed, 3, 50)
    stacked = np.concatenate(inputs)
    answers = np.concatenate([x @ weight.T for x, weight in zip(inputs, weights, strict=True)])
    wanted = np.linalg.lstsq(stacked, answers, rcond=None)[0].T
    np.testing.assert_allclose(regmean(weights, grams(inputs), (1, 1, 1), shrink=1.0), wanted, rtol=1e-3, atol=1e-3)


def test_a_share_counts_like_as_many_copies() -> None:
    weights, inputs = problem(0, 2, 40)
    found = regmean(weights, grams(inputs), (1, 3), shrink=0.8)
    copies = regmean([weights[0], *[weights[1]] * 3], grams([inputs[0], *[inputs[1]] * 3]), (1, 1, 1, 1), shrink=0.8)
    np.testing.assert_allclose(found, copies, rtol=1e-8)


def test_shrunk_to_the_diagonal_columns_are_averaged_by_their_power() -> None:
    weights, inputs = problem(1, 2, 40)
    powers = [np.diagonal(gram) for gram in grams(inputs)]
    wanted = (weights[0] * powers[0] + weights[1] * powers[1]) / (powers[0] + powers[1])
    np.testing.assert_allclose(regmean(weights, grams(inputs), (1, 1), shrink=0.0), wanted, rtol=1e-4)


def test_columns_that_nobody_saw_are_averaged_and_others_solved() -> None:
    weights, inputs = problem(2, 2, 40)
    for x in inputs:
        x[:, 2] = 0.0
    found = regmean(weights, grams(inputs), (1, 1), shrink=1.0)
    np.testing.assert_allclose(found[:, 2], (weights[0][:, 2] + weights[1][:, 2]) / 2, rtol=1e-6)
    assert np.abs(found - (weights[0] + weights[1]) / 2).max() > 0.1


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_without_usable_matrices_it_is_the_average(value: float) -> None:
    weights, _ = problem(0, 2, 10)
    with np.errstate(invalid="ignore"):
        found = regmean(weights, [np.full((IN, IN), value)] * 2, (1, 3))
    np.testing.assert_allclose(found, (weights[0] + 3 * weights[1]) / 4)


def test_equal_weights_stay_whatever_the_inputs() -> None:
    weights, inputs = problem(3, 2, 3)
    np.testing.assert_allclose(regmean([weights[0]] * 2, grams(inputs), (1, 1)), weights[0], rtol=1e-12)


def test_shrinking_leaves_the_matrix_it_is_given() -> None:
    gram = np.full((2, 2), 4.0)
    np.testing.assert_array_equal(shrunk(gram, 0.5), [[4.0, 2.0], [2.0, 4.0]])
    np.testing.assert_array_equal(gram, np.full((2, 2), 4.0))
