from __future__ import annotations

import itertools

import numpy as np
import pytest

from lwc.passes.solvers.compensation import (
    bias_correction,
    column_sensitivity,
    corrected_bias,
    low_rank_correction,
    norm_tweaking,
    outlier_columns,
    super_weights,
)
from lwc.passes.solvers.grid import layer_loss


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def inputs(features: int = 6, rows: int = 500) -> np.ndarray:
    """Rows with correlated features and means away from zero."""
    return drawn(rows, features, seed=1) @ drawn(features, features, seed=2) + drawn(features, seed=3)


def gram_of(x: np.ndarray) -> np.ndarray:
    return x.T @ x / len(x)


def test_a_corrected_bias_makes_the_mean_output_exact() -> None:
    x, weight, bias = inputs(), drawn(4, 6), drawn(4)
    rounded = np.rint(weight * 2) / 2
    after = x @ rounded.T + corrected_bias(bias, weight, rounded, x.mean(0))
    np.testing.assert_allclose(after.mean(0), (x @ weight.T + bias).mean(0), atol=1e-5)


def test_no_other_bias_leaves_less() -> None:
    x, weight = inputs(), drawn(4, 6)
    rounded = np.rint(weight * 2) / 2
    error = x @ weight.T - x @ rounded.T
    best = np.square(error - bias_correction(weight, rounded, x.mean(0))).sum()
    assert all(best < np.square(error - other).sum() for other in drawn(200, 4))


def test_a_layer_without_a_bias_gets_the_correction_alone() -> None:
    x, weight = inputs(), drawn(4, 6)
    rounded = np.rint(weight)
    np.testing.assert_allclose(
        corrected_bias(None, weight, rounded, x.mean(0)), bias_correction(weight, rounded, x.mean(0)), rtol=1e-5
    )


def remaining(error: np.ndarray, gram: np.ndarray, pair: tuple[np.ndarray, np.ndarray]) -> float:
    return layer_loss(error, pair[0] @ pair[1], gram)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_no_low_rank_term_leaves_less_than_the_correction(rank: int) -> None:
    error, gram = drawn(5, 6), gram_of(inputs())
    best = remaining(error, gram, low_rank_correction(error, gram, rank))
    root = np.linalg.cholesky(gram)
    singular = np.linalg.svd(error @ root, compute_uv=False)
    assert best == pytest.approx(np.square(singular[rank:]).sum())  # Eckart and Young's bound
    left, scales, right = np.linalg.svd(error, full_matrices=False)
    plain = (left[:, :rank] * scales[:rank], right[:rank])
    assert best < remaining(error, gram, plain)


def test_the_low_rank_term_of_full_rank_leaves_nothing() -> None:
    error, gram = drawn(4, 6), gram_of(inputs())
    assert remaining(error, gram, low_rank_correction(error, gram, 4)) == pytest.approx(0.0, abs=1e-9)


def test_low_rank_correction_needs_no_regular_gram_matrix() -> None:
    error, seen = drawn(5, 6), inputs()
    seen[:, 2] = seen[:, 1]
    seen[:, 4] = 0.0
    gram = gram_of(seen)
    left, right = low_rank_correction(error, gram, 2)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(error @ gram @ error.T)[::-1], 0))
    assert np.isfinite(right).all()
    assert remaining(error, gram, (left, right)) == pytest.approx(np.square(singular[2:]).sum())


def test_no_other_columns_leave_less_where_inputs_are_independent() -> None:
    weight, gram = drawn(4, 6), np.diag(np.random.default_rng(4).uniform(0.1, 9, 6))
    rounded = np.rint(weight)

    def left(kept: tuple[int, ...]) -> float:
        mixed = rounded.copy()
        mixed[:, kept] = weight[:, kept]
        return layer_loss(weight, mixed, gram)

    best = min(itertools.combinations(range(6), 2), key=left)
    assert tuple(outlier_columns(weight, rounded, gram, 2)) == best


def test_column_sensitivity_is_the_loss_of_rounding_one_column() -> None:
    weight, gram = drawn(4, 6), gram_of(inputs())
    rounded = np.rint(weight)
    for column, sensitivity in enumerate(column_sensitivity(weight, rounded, gram)):
        mixed = weight.copy()
        mixed[:, column] = rounded[:, column]
        assert sensitivity == pytest.approx(layer_loss(weight, mixed, gram))


def test_super_weights_are_those_whose_loss_changes_the_output_most() -> None:
    weight, gram = drawn(4, 6), gram_of(inputs())

    def effect(place: tuple[int, int]) -> float:
        without = weight.copy()
        without[place] = 0.0
        return layer_loss(weight, without, gram)

    ranked = sorted(np.ndindex(4, 6), key=effect, reverse=True)
    assert [tuple(place) for place in super_weights(weight, gram, 3)] == ranked[:3]


def test_a_tweaked_norm_gives_the_wanted_mean_and_variance() -> None:
    gamma, beta = drawn(5) + 3, drawn(5)
    wanted, normalized = drawn(400, 5) * 2 + 1, drawn(400, 5, seed=5) * 0.7 - 0.3
    found = normalized * gamma + beta
    g, b = norm_tweaking(gamma, beta, (wanted.mean(0), wanted.var(0)), (found.mean(0), found.var(0)))
    after = normalized * g + b
    np.testing.assert_allclose(after.mean(0), wanted.mean(0), atol=1e-9)
    np.testing.assert_allclose(after.var(0), wanted.var(0), rtol=1e-9)


def test_tweaking_keeps_gamma_of_channels_that_became_constant() -> None:
    gamma, beta = norm_tweaking(np.array([2.0]), np.array([1.0]), ([3.0], [4.0]), ([1.5], [0.0]))
    assert (gamma[0], beta[0]) == (2.0, 2.5)
