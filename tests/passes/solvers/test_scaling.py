from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lwc.passes.solvers.grid import Grid, layer_loss
from lwc.passes.solvers.rounding import dequantize, quantize_per_channel
from lwc.passes.solvers.scaling import (
    ALPHAS,
    SHARES,
    Smoothing,
    awq_search,
    bias_absorption,
    common_tails,
    cross_layer_equalization,
    integer_loss,
    outlier_suppression,
    repq,
    smooth_quant,
    smooth_search,
    unchanged,
)

Floats = np.ndarray


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def outliers(rows: int = 4000, channels: int = 16) -> Floats:
    """Activations [rows, channels] of which some channels are large and off center."""
    x = drawn(rows, channels, seed=1) @ (np.eye(channels) + 0.2 * drawn(channels, channels, seed=2))
    x *= np.where(np.arange(channels) % 5 == 0, 20.0, 1.0)
    x[:, 3] += 40.0
    return x


def moments(x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Least, greatest and mean values, and the Gram matrix."""
    return x.min(0), x.max(0), x.mean(0), x.T @ x / len(x)


def measured(x: Floats, weight: Floats, smoothing: Smoothing) -> float:
    """E ||W x - W^ x^||^2 by really rounding: inputs to uint8 per tensor, weights to int8 per output."""
    inputs, weights = smoothing.input(x), smoothing.weight(weight)
    low, high = min(0.0, inputs.min()), max(0.0, inputs.max())
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rounded = (np.clip(np.rint(inputs / step) + zero, 0, 255) - zero) * step
    codes, scale, _ = quantize_per_channel(weights, 0)
    error = inputs @ weights.T - rounded @ dequantize(codes, scale, axis=0).T
    return float(np.square(error).sum(1).mean())


def four_bits(weight: Floats) -> Grid:
    scale = np.abs(weight).max(axis=1, keepdims=True).astype(np.float32) / 7
    return Grid(scale, np.zeros(scale.shape, np.int32), weight.shape[1], -7, 7)


def test_equalized_layers_compute_the_same_with_equal_ranges() -> None:
    first, bias, second, x = drawn(8, 5), drawn(8), drawn(3, 8) * np.logspace(-3, 3, 8), drawn(100, 5)
    f, b, s, scale = cross_layer_equalization(first, bias, second)
    assert b is not None
    np.testing.assert_allclose(np.abs(f).max(1), np.abs(s).max(0))
    np.testing.assert_allclose(f * scale[:, None], first)
    before = np.maximum(x @ first.T + bias, 0) @ second.T
    np.testing.assert_allclose(np.maximum(x @ f.T + b, 0) @ s.T, before, rtol=1e-9, atol=1e-9)


def test_equalization_maximizes_the_precision_over_all_scales() -> None:
    first, second = drawn(4, 5) * np.logspace(0, 1, 4)[:, None], drawn(3, 4)

    def precision(f: Floats, s: Floats) -> float:
        """sum_i p_i(W1) p_i(W2), a channel's range over that of its tensor (Nagel et al. 2019, eq. 8)."""
        one, two = np.abs(f).max(1), np.abs(s).max(0)
        return float((one / one.max() * (two / two.max())).sum())

    f, _, s, _ = cross_layer_equalization(first, None, second)
    best = precision(f, s)
    for scale in np.exp(drawn(2000, 4)):
        assert precision(first / scale[:, None], second * scale) <= best + 1e-12


def test_channels_that_nothing_makes_or_reads_keep_their_scale() -> None:
    first, second = drawn(3, 4), drawn(2, 3)
    first[0], second[:, 1] = 0, 0
    assert cross_layer_equalization(first, None, second)[3][:2].tolist() == [1.0, 1.0]


def test_an_absorbed_bias_changes_nothing_where_the_relu_passes_everything() -> None:
    first, second, second_bias, x = drawn(6, 4), drawn(3, 6), drawn(3), drawn(5000, 4, seed=3)
    bias = np.array([30.0, 20.0, 10.0, 0.0, -1.0, 15.0])
    made = x @ first.T + bias
    mean, deviation = made.mean(0), made.std(0)
    b, c = bias_absorption(bias, second, second_bias, mean, deviation, sigmas=5.0)
    before = np.maximum(made, 0) @ second.T + second_bias
    np.testing.assert_allclose(np.maximum(x @ first.T + b, 0) @ second.T + c, before, atol=1e-9)
    assert (b <= bias).all()
    assert b[0] < bias[0]
    assert b[4] == bias[4]


def test_a_smoothed_layer_computes_the_same() -> None:
    x, weight = outliers(), drawn(7, 16)
    smoothing = smooth_quant(x.min(0), x.max(0), weight)
    after = smoothing.input(x) @ smoothing.weight(weight).T + smoothing.bias(weight)
    np.testing.assert_allclose(after, x @ weight.T, rtol=1e-9, atol=1e-9)


def test_smoothing_halfway_makes_ranges_of_channels_and_weights_equal() -> None:
    x, weight = outliers(), drawn(7, 16)
    smoothing = smooth_quant(x.min(0), x.max(0), weight, 0.5)
    ratio = np.abs(smoothing.input(x)).max(0) / np.abs(smoothing.weight(weight)).max(0)
    np.testing.assert_allclose(ratio, ratio[0])


def test_a_shift_centers_each_channel() -> None:
    x = outliers()
    moved = smooth_quant(x.min(0), x.max(0), drawn(7, 16)).input(x)
    np.testing.assert_allclose(moved.min(0), -moved.max(0))


def test_smoothing_leaves_dead_channels_alone() -> None:
    x, weight = outliers(), drawn(7, 16)
    x[:, 2], weight[:, 4] = 0.0, 0.0
    scale = smooth_quant(x.min(0), x.max(0), weight, shift=False).scale
    assert np.isfinite(scale).all()
    assert scale[[2, 4]].tolist() == [1.0, 1.0]


def test_the_gram_matrix_follows_the_smoothing() -> None:
    x = outliers()
    low, high, mean, gram = moments(x)
    smoothing = smooth_quant(low, high, drawn(7, 16))
    np.testing.assert_allclose(smoothing.gram(gram, mean), moments(smoothing.input(x))[3], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.3, 0.5, 0.8])
def test_the_predicted_loss_is_the_measured_one(alpha: float | None) -> None:
    x, weight = outliers(), drawn(7, 16)
    low, high, mean, gram = moments(x)
    smoothing = unchanged(16) if alpha is None else smooth_quant(low, high, weight, alpha)
    predicted = integer_loss(smoothing, low, high, mean, weight, gram)
    assert predicted == pytest.approx(measured(x, weight, smoothing), rel=0.15)


def test_the_search_finds_the_least_measured_loss_of_its_grid() -> None:
    x, weight = outliers(), drawn(7, 16)
    low, high, mean, gram = moments(x)
    found = measured(x, weight, smooth_search(low, high, mean, weight, gram))
    tried = [measured(x, weight, smooth_quant(low, high, weight, alpha)) for alpha in ALPHAS]
    assert found <= 1.1 * min(*tried, measured(x, weight, unchanged(16)))
    assert found < 0.5 * measured(x, weight, unchanged(16))


def test_the_search_does_nothing_where_that_is_best() -> None:
    x, weight = np.random.default_rng(0).uniform(-1, 1, (4000, 8)), np.sign(drawn(7, 8))
    low, high = -np.ones(8), np.ones(8)
    found = smooth_search(low, high, x.mean(0), weight, x.T @ x / len(x), shift=False)
    np.testing.assert_allclose(found.scale, 1.0)


@pytest.mark.parametrize("shift", [True, False])
def test_outlier_suppression_finds_the_least_measured_loss_over_its_thresholds(shift: bool) -> None:
    x, weight = outliers(), drawn(7, 16)
    low, high, mean, gram = moments(x)
    found = outlier_suppression(low, high, mean, weight, gram, shift=shift)
    center = (low + high) / 2 if shift else np.zeros(16)
    reach = np.maximum(high - center, center - low)
    tried = [Smoothing(np.maximum(1.0, reach / (reach.max() * share)), center) for share in SHARES]
    least = min(measured(x, weight, smoothing) for smoothing in (unchanged(16), *tried))
    assert measured(x, weight, found) <= 1.1 * least
    assert measured(x, weight, found) < 0.5 * measured(x, weight, unchanged(16))
    assert (found.scale >= 1).all()


def test_a_tail_that_one_channel_shows_is_expected_of_all() -> None:
    low, high = np.array([-2.0, -1.0, 0.5]), np.array([2.0, 9.0, 0.5])
    below, above = common_tails(low, high, np.array([0.0, 1.0, 0.5]), np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(above, [4.0, 9.0, 0.5])
    np.testing.assert_allclose(below, [-4.0, -7.0, 0.5])


def test_values_that_are_never_negative_are_not_expected_to_become_so() -> None:
    below, above = common_tails(np.zeros(2), np.array([1.0, 8.0]), np.array([0.5, 1.0]), np.ones(2))
    assert below.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(above, [7.5, 8.0])


def test_one_scale_after_repq_gives_the_codes_of_one_scale_per_channel() -> None:
    x = outliers()
    low, high = x.min(0), x.max(0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    wanted = np.rint(x / scale + zero)
    smoothing = repq(low, high)
    codes = np.rint(smoothing.input(x) / scale.mean() + np.rint(zero.mean()))
    assert np.mean(codes != wanted) < 1e-3  # halves may round the other way
    assert np.abs(codes - wanted).max() <= 1


def test_repq_keeps_constant_channels_finite() -> None:
    smoothing = repq(np.array([0.0, -1.0, 2.0]), np.array([0.0, 3.0, 2.0]))
    assert np.isfinite(smoothing.scale).all()
    assert np.isfinite(smoothing.shift).all()
    assert (smoothing.scale > 0).all()


def loss_with(weight: Floats, gram: Floats, scale: Floats, grid_of: Callable[[Floats], Grid]) -> float:
    scaled = (weight * scale).astype(np.float32)
    grid = grid_of(scaled)
    return layer_loss(weight.astype(np.float32), grid.dequantize(grid.quantize(scaled)) / scale, gram)


def test_awq_takes_the_best_exponent_of_its_grid() -> None:
    x, weight = outliers(), drawn(24, 16)
    gram, magnitude = moments(x)[3], np.abs(x).mean(0)
    scale, loss = awq_search(weight, gram, magnitude, four_bits)
    tried = {a: loss_with(weight, gram, magnitude**a, four_bits) for a in np.arange(20) / 20}
    assert loss == pytest.approx(min(tried.values()), rel=1e-3)  # a common factor of s changes only rounding
    assert loss == pytest.approx(loss_with(weight, gram, scale, four_bits))
    assert loss < 0.8 * tried[0.0]


def test_awq_is_never_worse_than_rounding_as_it_is() -> None:
    weight = drawn(24, 16)
    assert awq_search(weight, np.eye(16), np.ones(16), four_bits)[1] == pytest.approx(
        loss_with(weight, np.eye(16), np.ones(16), four_bits)
    )
