"""Compensation of removed inputs: closed forms, the best that any weights could do, and degenerate inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.moments import covariance, damped, patch_mean
from lwc.passes.solvers.removal import COMPENSATIONS, refit, removal_losses


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def inputs(features: int = 8, rows: int = 400, seed: int = 1) -> np.ndarray:
    """Rows with correlated features and means away from zero."""
    mixing = drawn(features, features, seed=seed + 1) * (np.arange(features) + 1.0)[:, None] ** -0.7
    return drawn(rows, features, seed=seed) @ mixing + drawn(features, seed=seed + 2)


def gram_of(x: np.ndarray) -> np.ndarray:
    return x.T @ x / len(x)


def but(features: int, *removed: int) -> np.ndarray:
    kept = np.ones(features, bool)
    kept[list(removed)] = False
    return kept


def loss(x: np.ndarray, weight: np.ndarray, kept: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> float:
    left, shift = found
    return float(np.square(x @ weight.T - x[:, kept] @ left.T - shift).sum(axis=1).mean())


@pytest.mark.parametrize("method", COMPENSATIONS)
@pytest.mark.parametrize("known", [True, False], ids=["mean", "no mean"])
def test_no_output_is_worse_than_with_plain_removal(method: str, known: bool) -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 1, 4, 6)
    if method == "bias" and not known:
        return
    left, shift = refit(weight, gram_of(x), x.mean(0) if known else None, kept, method)
    plain = np.square(x[:, ~kept] @ weight[:, ~kept].T).mean(0)
    assert (np.square(x @ weight.T - x[:, kept] @ left.T - shift).mean(0) <= plain * (1 + 1e-9)).all()


def test_each_method_loses_less_than_the_one_it_refines() -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 1, 4, 6)
    none, bias, least, obs, merge = (
        loss(x, weight, kept, refit(weight, gram_of(x), x.mean(0), kept, method)) for method in COMPENSATIONS
    )
    assert least < merge < bias < none
    assert least < obs < none


def test_least_squares_is_nearly_the_best_that_any_weights_and_bias_do() -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 0, 3)
    found = loss(x, weight, kept, refit(weight, gram_of(x), x.mean(0), kept, "least-squares"))
    design = np.column_stack([x[:, kept], np.ones(len(x))])
    best = np.linalg.lstsq(design, x @ weight.T, rcond=None)[0]
    assert found == pytest.approx(loss(x, weight, kept, (best[:-1].T, best[-1])), rel=0.1)


def test_least_squares_is_ridge_regression_towards_the_weights_there_were() -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 0, 3)
    moments = covariance(gram_of(x), x.mean(0))
    among = damped(moments[np.ix_(kept, kept)])
    expected = weight[:, kept] + weight[:, ~kept] @ moments[np.ix_(~kept, kept)] @ np.linalg.inv(among)
    left, shift = refit(weight, gram_of(x), x.mean(0), kept, "least-squares")
    np.testing.assert_allclose(left, expected, rtol=1e-6)
    np.testing.assert_allclose(shift, weight @ x.mean(0) - expected @ x.mean(0)[kept], rtol=1e-6)


@pytest.mark.parametrize("method", ["least-squares", "merge"])
def test_a_mean_that_no_sample_with_this_gram_matrix_has_is_not_used(method: str) -> None:
    """As padding and sampled positions make them."""
    x, weight, kept = inputs(), drawn(5, 8), but(8, 1, 4, 6)
    for known in (2.0 * x.mean(0), x.mean(0) + drawn(8), 1e6 * drawn(8)):
        found = refit(weight, gram_of(x), known, kept, method)
        without = refit(weight, gram_of(x), None, kept, method)
        assert all(np.array_equal(a, b) for a, b in zip(found, without, strict=True))


def test_a_covariance_is_positive_whatever_the_mean() -> None:
    x = inputs()
    exact = covariance(gram_of(x), x.mean(0))
    np.testing.assert_allclose(exact, np.cov(x.T, bias=True), atol=1e-9)
    for mean in (1.05 * x.mean(0), 5 * x.mean(0), drawn(8), 1e6 * drawn(8), np.zeros(8)):
        values = np.linalg.eigvalsh(covariance(gram_of(x), mean))
        assert values.min() > -2e-3 * values.max()


def test_inputs_that_others_determine_leave_without_loss() -> None:
    x, weight = inputs(), drawn(5, 8)
    x[:, 2] = 3.0 * x[:, 0] - x[:, 5] + 7.0
    kept = but(8, 2)
    found = {m: loss(x, weight, kept, refit(weight, gram_of(x), x.mean(0), kept, m)) for m in COMPENSATIONS}
    assert found["least-squares"] < 1e-2 * found["bias"]
    assert found["least-squares"] < found["merge"]


def test_merging_folds_a_scaled_copy_exactly() -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 2)
    x[:, 2] = -2.0 * x[:, 6] + 1.0
    left, shift = refit(weight, gram_of(x), x.mean(0), kept, "merge")
    expected = weight.copy()
    expected[:, 6] -= 2.0 * weight[:, 2]
    np.testing.assert_allclose(left, expected[:, kept], atol=1e-6)
    np.testing.assert_allclose(shift, weight[:, 2], atol=1e-6)


@pytest.mark.parametrize("removed", [(3,), (0, 3, 5)])
def test_optimal_brain_surgery_is_the_textbook_one(removed: tuple[int, ...]) -> None:
    """One input at a time by the inverse: Frantar & Alistarh 2022, eq. 7."""
    x, weight, kept = inputs(), drawn(5, 8), but(8, *removed)
    gram = gram_of(x)
    alive = damped(gram[np.ix_(kept, kept)])[0, 0] - gram[kept][0, kept][0]
    inverse, book = np.linalg.inv(gram + alive * np.diag(kept)), weight.copy()
    for j in removed:
        book -= np.outer(book[:, j] / inverse[j, j], inverse[j])
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, j] = 1.0
    left, shift = refit(weight, gram, x.mean(0), kept, "obs")
    np.testing.assert_allclose(left, book[:, kept], atol=1e-6)
    assert not shift.any()


def test_losses_are_those_of_the_samples() -> None:
    x, weight, kept = inputs(), drawn(5, 8), but(8, 2, 3)
    left, shift = drawn(5, 6, seed=7), drawn(5, seed=8)
    found = removal_losses(weight, gram_of(x), x.mean(0), kept, left, shift)
    np.testing.assert_allclose(found, np.square(x @ weight.T - x[:, kept] @ left.T - shift).mean(0))


@pytest.mark.parametrize("kind", ["zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny", "not finite"])
@pytest.mark.parametrize("method", ["least-squares", "obs", "merge"])
def test_degenerate_moments_give_finite_weights(layer, method: str, kind: str) -> None:
    weight, gram = layer(5, 8, kind)
    kept = but(8, 0, 1, 5)
    left, shift = refit(weight, gram, None, kept, method)
    assert np.isfinite(left).all()
    assert not shift.any()
    if kind not in ("zeros", "not finite"):
        top = gram.max()
        plain = removal_losses(weight, gram / top, None, kept, weight[:, kept].astype(float), shift)
        assert (removal_losses(weight, gram / top, None, kept, left, shift) <= plain * (1 + 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 30), st.sampled_from(COMPENSATIONS))
def test_whatever_leaves_no_row_gets_worse(seed: int, features: int, rows: int, method: str) -> None:
    x, weight = inputs(features, rows, seed), drawn(3, features, seed=seed + 9)
    kept = np.random.default_rng(seed).random(features) < 0.6
    left, shift = refit(weight, gram_of(x), x.mean(0), kept, method)
    assert left.shape == (3, int(kept.sum()))
    plain = np.square(x[:, ~kept] @ weight[:, ~kept].T).mean(0)
    after = np.square(x @ weight.T - x[:, kept] @ left.T - shift).mean(0)
    assert (after <= plain + 1e-9 * (1 + plain)).all()


def test_where_nothing_leaves_nothing_changes() -> None:
    x, weight = inputs(), drawn(5, 8)
    for method in COMPENSATIONS:
        left, shift = refit(weight, gram_of(x), x.mean(0), np.ones(8, bool), method)
        assert np.array_equal(left, weight)
        assert not shift.any()


def test_where_all_leave_the_bias_is_the_mean_output() -> None:
    x, weight = inputs(), drawn(5, 8)
    left, shift = refit(weight, gram_of(x), x.mean(0), np.zeros(8, bool), "least-squares")
    assert left.shape == (5, 0)
    np.testing.assert_allclose(shift, (x @ weight.T).mean(0))


@pytest.mark.parametrize(
    ("method", "gram", "mean"), [("bias", np.eye(2), None), ("obs", None, np.ones(2)), ("best", np.eye(2), None)]
)
def test_what_cannot_be_solved_is_refused(method: str, gram: np.ndarray | None, mean: np.ndarray | None) -> None:
    with pytest.raises(BadPlan, match=method):
        refit(drawn(3, 2), gram, mean, but(2, 0), method)


@pytest.mark.parametrize("padding", [0, 1])
def test_patch_means_are_those_of_the_patches(padding: int) -> None:
    """Channels of constant value: padding is the only thing that patches differ by."""
    value = np.array([2.0, -3.0])
    image = np.pad(np.broadcast_to(value[:, None, None], (2, 6, 6)), ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
    patches = windows.transpose(1, 2, 0, 3, 4).reshape(-1, 18)
    np.testing.assert_allclose(patch_mean(gram_of(patches), value, np.square(value)), patches.mean(0))
