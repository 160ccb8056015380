"""Accumulators: exact where exactness is promised, independent of order and of how values come in parts."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lwc.compiler.core.accumulate import BINS, GramAccumulator, TensorAccumulator, is_float

MAGNITUDES = st.floats(2.0**-60, 2.0**66, width=32)
VALUES = arrays(np.float32, st.integers(1, 40), elements=MAGNITUDES | MAGNITUDES.map(lambda v: -v) | st.just(0.0))


def stats_of(*parts, axis=None):
    accumulator = TensorAccumulator(axis)
    for part in parts:
        accumulator.update(np.asarray(part))
    return accumulator.finish()


def same_histogram(a, b):
    np.testing.assert_array_equal(a.histogram, b.histogram)
    np.testing.assert_array_equal(a.edges, b.edges)


@given(VALUES)
@settings(max_examples=100)
def test_histogram_counts_each_value_between_its_edges(values):
    stats = stats_of(values)
    assert stats.count == stats.histogram.sum() == values.size
    assert len(stats.histogram) <= BINS
    assert stats.edges[0] <= values.min()
    assert values.max() < stats.edges[-1]
    want = [((values >= low) & (values < high)).sum() for low, high in zip(stats.edges, stats.edges[1:], strict=False)]
    np.testing.assert_array_equal(stats.histogram, want)


@given(st.lists(VALUES, min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_histogram_is_the_same_in_any_order_and_in_any_parts(parts, random):
    shuffled = list(parts)
    random.shuffle(shuffled)
    same_histogram(stats_of(*parts), stats_of(*shuffled))
    same_histogram(stats_of(*parts), stats_of(np.concatenate(parts)))


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_moments_agree_with_numpy_in_float64(parts):
    stats, values = stats_of(*parts), np.concatenate(parts).astype(np.float64)
    size = np.abs(values).max()
    assert stats.minimum == values.min()
    assert stats.maximum == values.max()
    assert stats.mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-6 * size)
    assert stats.variance == pytest.approx(values.var(), rel=1e-5, abs=1e-12 * size**2)


def test_variance_survives_a_mean_a_million_times_the_deviation():
    values = (1e4 + 1e-2 * np.random.default_rng(0).standard_normal(300_000)).astype(np.float32)
    assert stats_of(values).variance == pytest.approx(values.astype(np.float64).var(), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e17, 1e37])
def test_moments_hold_at_scales_whose_squares_leave_float32(scale):
    values = (np.random.default_rng(0).standard_normal(100_000) * scale).astype(np.float32)
    stats = stats_of(values[:30_000], values[30_000:])
    assert stats.mean == pytest.approx(values.mean(dtype=np.float64), abs=1e-6 * scale)
    assert stats.variance == pytest.approx(values.var(dtype=np.float64), rel=1e-5)


def test_half_of_the_bins_at_least_lie_between_zero_and_the_ends():
    for values in (np.linspace(0, 7.3, 10_000), np.linspace(-3.1, 5.2, 10_000), np.linspace(-9, -1e-3, 10_000)):
        stats = stats_of(values.astype(np.float32))
        width = stats.edges[1] - stats.edges[0]
        assert BINS / 2 <= (max(stats.maximum, 0) - min(stats.minimum, 0)) / width <= BINS


def test_zero_is_on_the_grid_of_edges():
    for values in ([-1.5, 2.25], [0.1, 7.0], [-3.0, -1.0]):
        stats = stats_of(np.array(values, np.float32))
        steps = stats.edges / (stats.edges[1] - stats.edges[0])
        np.testing.assert_array_equal(steps, np.rint(steps))


def test_zeros_are_counted_whatever_their_sign():
    assert stats_of(np.array([0.0, -0.0, 1.0, 1e-45], np.float32)).zeros == 2


def test_values_that_are_not_finite_are_left_out_and_counted():
    stats = stats_of(np.array([1.0, np.nan, 3.0, np.inf, -np.inf], np.float32), np.array([np.nan], np.float32))
    assert (stats.count, stats.nonfinite) == (2, 4)
    assert (stats.minimum, stats.maximum, stats.mean, stats.variance) == (1.0, 3.0, 2.0, 1.0)


@pytest.mark.parametrize("parts", [[], [np.zeros((2, 0), np.float32)], [np.array([np.nan], np.float32)]])
def test_without_finite_values_everything_is_zero(parts):
    stats = stats_of(*parts)
    assert (stats.count, stats.minimum, stats.maximum, stats.mean, stats.variance) == (0, 0, 0, 0, 0)
    assert stats.histogram.sum() == 0
    assert len(stats.edges) == len(stats.histogram) + 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_every_float_type_is_taken(dtype):
    values = np.array([-1.0, 0.5, 2.0, 0.0]).astype(dtype)
    assert is_float(values.dtype)
    stats = stats_of(values)
    assert (stats.count, stats.minimum, stats.maximum, stats.mean, stats.zeros) == (4, -1.0, 2.0, 0.375, 1)


def test_integers_are_no_floats():
    assert not any(is_float(np.dtype(kind)) for kind in (np.int8, np.uint64, np.bool_, np.str_))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_channel_moments_agree_with_numpy_along_any_axis(axis):
    rng = np.random.default_rng(0)
    shapes = [[4, 5, 6, 7], [4, 5, 6, 7]]
    shapes[1][(axis + 1) % 4] += 3
    parts = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    stats = stats_of(*parts, axis=axis)
    rows = np.concatenate([np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]) for part in parts]).astype(float)
    assert stats.axis == axis % 4
    np.testing.assert_array_equal(stats.channel_minimum, rows.min(0))
    np.testing.assert_array_equal(stats.channel_maximum, rows.max(0))
    np.testing.assert_allclose(stats.channel_mean, rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(stats.channel_square, np.square(rows).mean(0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 300, 300), (70_000, 3), (1, 70_000), (2, 300, 1000)])
def test_channel_moments_hold_for_tensors_of_many_chunks(shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    stats = stats_of(values, axis=1)
    others = tuple(i for i in range(len(shape)) if i != 1)
    np.testing.assert_allclose(stats.channel_square, np.square(values.astype(float)).mean(others), rtol=1e-10)
    np.testing.assert_array_equal(stats.channel_maximum, values.max(others))


def test_an_axis_whose_length_changes_has_no_channels():
    stats = stats_of(np.ones((1, 3), np.float32), np.ones((1, 4), np.float32), axis=1)
    assert stats.axis is None
    assert stats.channel_mean is None
    assert stats.count == 7


def test_accumulators_take_no_more_memory_as_values_come():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    accumulator = TensorAccumulator()
    accumulator.update(values)
    tracemalloc.start()
    for factor in (1, 1e-3, 1e3, 1e6) * 10:
        accumulator.update(values * np.float32(factor))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000


def test_gram_is_the_mean_of_outer_products():
    rows = np.random.default_rng(0).standard_normal((1000, 6)).astype(np.float32)
    accumulator = GramAccumulator()
    accumulator.update(rows[:300])
    accumulator.update(rows[300:])
    gram = accumulator.finish()
    np.testing.assert_allclose(gram, rows.T.astype(float) @ rows / 1000, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gram, gram.T)


def test_gram_of_groups_has_a_matrix_each():
    rows = np.random.default_rng(0).standard_normal((3, 50, 4)).astype(np.float32)
    accumulator = GramAccumulator()
    accumulator.update(rows)
    gram = accumulator.finish()
    for group in range(3):
        np.testing.assert_allclose(gram[group], rows[group].T @ rows[group] / 50, rtol=1e-5, atol=1e-6)


def test_gram_leaves_out_rows_that_are_not_finite():
    accumulator = GramAccumulator()
    accumulator.update(np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    np.testing.assert_array_equal(accumulator.finish(), [[1.0, 2.0], [2.0, 4.0]])


def test_gram_of_extreme_values_does_not_overflow():
    accumulator = GramAccumulator()
    accumulator.update(np.full((2, 2), 1e25, np.float32))
    np.testing.assert_allclose(accumulator.finish(), 1e50, rtol=1e-6)


def test_gram_of_no_rows_is_none():
    accumulator = GramAccumulator()
    accumulator.update(np.zeros((0, 4), np.float32))
    assert accumulator.finish() is None
