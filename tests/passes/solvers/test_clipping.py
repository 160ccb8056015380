"""Ranges from histograms, against brute force and against the values themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.accumulate import TensorAccumulator
from lwc.compiler.core.plan import Range
from lwc.passes.solvers.clipping import (
    METHODS,
    entropy,
    minmax,
    mse,
    percentile,
    quantization_error,
    symmetric,
)
from lwc.passes.solvers.rounding import affine_parameters, dequantize, quantize


def stats_of(*parts):
    accumulator = TensorAccumulator()
    for part in parts:
        accumulator.update(np.asarray(part, np.float32))
    return accumulator.finish()


def true_error(x, range_, dtype=np.uint8):
    scale, zero_point = affine_parameters(range_, dtype)
    back = dequantize(quantize(x, scale, zero_point, dtype), scale, zero_point)
    return float(np.mean(np.square(back.astype(np.float64) - x)))


def hard_swish(x):
    return x * np.clip(x / 6 + 0.5, 0, 1)


def tensors():
    rng = np.random.default_rng(0)
    gauss = rng.standard_normal(200_000).astype(np.float32)
    return {
        "gauss": gauss,
        "relu": np.maximum(gauss, 0),
        "sparse relu": np.maximum(gauss - 2, 0),
        "relu6": np.clip(3 * gauss, 0, 6),
        "hard swish": hard_swish(3 * gauss).astype(np.float32),
        "laplace": rng.laplace(size=200_000).astype(np.float32),
        "lopsided": (gauss**2 - 0.3).astype(np.float32),
        "negative": -np.abs(gauss) - np.float32(1),
        "far from zero": gauss + np.float32(50),
        "sigmoid": (1 / (1 + np.exp(-4 * gauss))).astype(np.float32),
    }


TENSORS = tensors()
DEGENERATE = {
    "zeros": [np.zeros(100)],
    "constant": [np.full(100, 3.5)],
    "negative constant": [np.full(100, -3.5)],
    "one value": [np.array([1e-30])],
    "zeros and one": [np.zeros(100_000), np.ones(1)],
    "nothing": [np.zeros(0)],
    "only nan": [np.full(3, np.nan)],
    "two values": [np.array([-1.0, 2.0])],
    "huge": [np.array([-3.4e38, 0.5, 3.4e38])],
    "denormal": [np.array([1e-42, 2e-42])],
}


@pytest.mark.parametrize("method", [name for name, _ in METHODS])
@pytest.mark.parametrize("case", [*TENSORS, *DEGENERATE])
def test_every_method_gives_finite_ordered_ranges_that_hold_zero(method, case):
    stats = stats_of(TENSORS[case]) if case in TENSORS else stats_of(*DEGENERATE[case])
    range_ = dict(METHODS)[method](stats)
    assert math.isfinite(range_.low)
    assert math.isfinite(range_.high)
    assert min(stats.minimum, 0.0) <= range_.low <= 0.0 <= range_.high <= max(stats.maximum, 0.0)
    if stats.minimum or stats.maximum:
        assert range_.low < range_.high


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_predicted_error_is_that_of_the_values(name, share, dtype):
    x = TENSORS[name]
    full = minmax(stats_of(x))
    range_ = Range(full.low * share, full.high * share)
    assert quantization_error(stats_of(x), range_, 256) == pytest.approx(true_error(x, range_, dtype), rel=0.03)


def test_error_of_a_range_that_is_all_zero_is_the_mean_square():
    x = TENSORS["gauss"]
    predicted = quantization_error(stats_of(x), Range(0.0, 0.0))
    assert predicted == pytest.approx(float(np.mean(np.square(x))), rel=1e-4)


def test_error_is_exact_for_spikes_at_both_ends():
    stats = stats_of(np.zeros(500), np.full(500, 6.0))
    assert quantization_error(stats, Range(0.0, 6.0)) == pytest.approx(0.0, abs=1e-20)
    assert quantization_error(stats, Range(0.0, 5.0)) == pytest.approx(0.5, rel=1e-9)


def test_error_of_no_values_is_zero():
    assert quantization_error(stats_of(np.zeros(0)), Range(-1.0, 1.0)) == 0.0


@pytest.mark.parametrize("name", TENSORS)
def test_mse_is_within_two_percent_of_brute_force_over_both_ends(name):
    stats = stats_of(TENSORS[name])
    full = minmax(stats)
    shares = np.linspace(0.0, 1.0, 41)
    errors = [
        quantization_error(stats, Range(full.low * a, full.high * b))
        for a in (shares if full.low else [1.0])
        for b in (shares if full.high else [1.0])
        if full.low * a != full.high * b
    ]
    assert quantization_error(stats, mse(stats)) <= min(errors) * 1.02


@pytest.mark.parametrize("levels", [8, 16, 255, 256])
@pytest.mark.parametrize("name", TENSORS)
def test_mse_is_the_best_method_by_its_own_measure(name, levels):
    stats = stats_of(TENSORS[name])
    best = quantization_error(stats, mse(stats, levels), levels)
    others = [minmax(stats), percentile(stats), entropy(stats, levels)]
    assert all(best <= quantization_error(stats, other, levels) * 1.02 for other in others)
    assert best <= quantization_error(stats, minmax(stats), levels)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50), st.sampled_from([4, 16, 256]))
@settings(max_examples=60, deadline=None)
def test_mse_never_loses_to_minmax(values, levels):
    stats = stats_of(values)
    best = quantization_error(stats, mse(stats, levels), levels)
    assert best <= quantization_error(stats, minmax(stats), levels) * (1 + 1e-9)


def test_mse_drops_a_negative_tail_that_costs_more_than_it_keeps():
    """At 4 bits, HardSwish's dip of -0.375 under values up to 12 is not worth a code."""
    x = hard_swish(np.linspace(-3, 12, 100_000)).astype(np.float32)
    range_ = mse(stats_of(x), 16)
    scale = (range_.high - range_.low) / 15
    assert round(-range_.low / scale) == 0


def test_mse_searches_the_ends_separately():
    x = np.concatenate([TENSORS["gauss"], np.full(3, 40.0)]).astype(np.float32)
    range_ = mse(stats_of(x), 16)
    assert range_.high < 10.0
    assert range_.low < -1.5


@pytest.mark.parametrize("p", [90.0, 99.0, 99.9])
def test_percentile_leaves_out_the_same_share_at_each_end(p):
    x = TENSORS["gauss"]
    range_ = percentile(stats_of(x), p)
    tail = (100.0 - p) / 2
    assert range_.low == pytest.approx(np.percentile(x, tail), abs=0.01)
    assert range_.high == pytest.approx(np.percentile(x, 100 - tail), abs=0.01)


def test_percentile_does_not_count_zeros():
    x = np.linspace(0.01, 1, 10_000)
    few, many = percentile(stats_of(x), 99.0), percentile(stats_of(x, np.zeros(1_000_000)), 99.0)
    assert few == many
    assert few.high == pytest.approx(0.995, abs=0.005)


def test_percentile_of_all_is_minmax():
    stats = stats_of(TENSORS["laplace"])
    assert percentile(stats, 100.0) == minmax(stats)


def test_entropy_cuts_a_long_thin_tail():
    x = np.concatenate([TENSORS["relu"], np.linspace(5, 60, 40)]).astype(np.float32)
    assert entropy(stats_of(x)).high < 20.0


def test_entropy_keeps_values_that_are_spread_evenly():
    x = np.linspace(0, 1, 200_000, dtype=np.float32)
    assert entropy(stats_of(x)).high > 0.95


def test_entropy_ignores_how_many_zeros_there_are():
    x = TENSORS["relu"]
    assert entropy(stats_of(x)) == entropy(stats_of(x, np.zeros(10_000_000)))


def test_entropy_matches_brute_force_on_a_small_histogram():
    """Every window of a histogram of few bins, divergence written out as in the paper."""
    rng = np.random.default_rng(1)
    x = np.abs(rng.standard_normal(20_000)).astype(np.float32) ** 1.5
    stats = stats_of(x)
    levels = 64
    counts = stats.histogram.astype(np.float64)

    def divergence(stop):
        reference = counts[:stop].copy()
        reference[-1] += counts[stop:].sum()
        quantized = np.zeros(stop)
        for level in range(levels):
            inside = [i for i in range(stop) if i * levels // stop == level and counts[i] > 0]
            for i in inside:
                quantized[i] = sum(counts[j] for j in inside) / len(inside)
        p, q = smooth(reference), smooth(quantized)
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    def smooth(v):
        empty = v == 0
        return np.where(empty, 1e-4 / len(v), v / v.sum() * (1 - 1e-4 * empty.mean()))

    tried = sorted(set(np.linspace(levels, len(counts), 160).astype(int).tolist()))
    best = min(tried, key=divergence)
    assert entropy(stats, levels).high == pytest.approx(min(stats.edges[best], stats.maximum))


def test_few_bins_leave_entropy_at_minmax():
    stats = stats_of(np.array([1.0, 1.0, 1.0]))
    assert entropy(stats) == minmax(stats)


def test_symmetric_covers_both_ends():
    assert symmetric(Range(-1.0, 3.0)) == Range(-3.0, 3.0)
    assert symmetric(Range(-2.0, 0.0)) == Range(-2.0, 2.0)


def test_symmetric_int8_error_is_that_of_255_levels():
    x = TENSORS["lopsided"]
    range_ = symmetric(minmax(stats_of(x)))
    scale, zero_point = affine_parameters(range_, np.int8, symmetric=True)
    back = dequantize(quantize(x, scale, zero_point, np.int8), scale, zero_point)
    want = float(np.mean(np.square(back.astype(np.float64) - x)))
    assert quantization_error(stats_of(x), range_, 255) == pytest.approx(want, rel=0.03)


def test_methods_are_deterministic():
    for _, method in METHODS:
        assert method(stats_of(TENSORS["laplace"])) == method(stats_of(TENSORS["laplace"]))
