"""Nearest rounding: zero exact, errors within half a step, mse never worse than minmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lwc.compiler.core.plan import Range
from lwc.passes.solvers.rounding import affine_parameters, dequantize, quantize, quantize_per_channel

FLOATS = st.floats(-1e6, 1e6, width=32)
WEIGHTS = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=FLOATS)


@given(FLOATS, FLOATS, st.sampled_from([np.uint8, np.int8, np.uint16]), st.booleans())
def test_zero_is_exact_in_every_range(low, high, dtype, symmetric):
    scale, zero_point = affine_parameters(Range(low, high), dtype, symmetric)
    code = quantize(np.zeros(1, np.float32), scale, zero_point, dtype)
    assert dequantize(code, scale, zero_point)[0] == 0.0


@given(FLOATS, FLOATS, st.sampled_from([np.uint8, np.int8]), st.booleans(), st.floats(0, 1))
def test_values_in_the_range_are_off_by_a_step_at_most(low, high, dtype, symmetric, share):
    low, high = min(low, high, 0.0), max(low, high, 0.0)
    scale, zero_point = affine_parameters(Range(low, high), dtype, symmetric)
    x = np.array([np.float32(low + share * (high - low))])
    back = dequantize(quantize(x, scale, zero_point, dtype), scale, zero_point)
    # Half a step of rounding, and half of what moving the range to an exact zero cuts off an end.
    assert abs(float(back[0]) - float(x[0])) <= float(scale) * 1.001


def test_int8_parameters_of_a_known_range():
    scale, zero_point = affine_parameters(Range(-1.0, 3.0), np.uint8)
    assert scale == pytest.approx(4 / 255)
    assert (zero_point, zero_point.dtype) == (64, np.uint8)
    scale, zero_point = affine_parameters(Range(-1.0, 3.0), np.int8, symmetric=True)
    assert scale == pytest.approx(3 / 127)
    assert (zero_point, zero_point.dtype) == (0, np.int8)
    assert affine_parameters(Range(-1.0, 3.0), np.uint8, symmetric=True)[1] == 128


def test_an_empty_range_gives_scale_one():
    scale, zero_point = affine_parameters(Range(0.0, 0.0), np.uint8)
    assert (scale, zero_point) == (1.0, 0)


def test_a_range_of_denormals_gives_a_normal_scale():
    scale, _ = affine_parameters(Range(0.0, 1e-42), np.uint8)
    assert scale == np.finfo(np.float32).tiny


def test_the_widest_floats_do_not_overflow():
    top = float(np.finfo(np.float32).max)
    scale, zero_point = affine_parameters(Range(-top, top), np.uint8)
    assert np.isfinite(scale)
    assert zero_point in (127, 128)


@pytest.mark.parametrize(
    ("options", "low", "high", "dtype"),
    [
        ({}, -127, 127, np.int8),
        ({"reduce_range": True}, -64, 64, np.int8),
        ({"bits": 4}, -7, 7, np.int8),
        ({"symmetric": False}, 0, 255, np.uint8),
        ({"symmetric": False, "bits": 4}, 0, 15, np.uint8),
        ({"symmetric": False, "reduce_range": True}, 0, 127, np.uint8),
    ],
)
def test_codes_use_their_whole_span_and_no_more(options, low, high, dtype):
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    codes, _, zero_point = quantize_per_channel(weight, 0, **options)
    assert codes.dtype == zero_point.dtype == dtype
    assert codes.min() >= low
    assert codes.max() <= high
    assert all(low in row or high in row for row in codes)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_each_channel_has_its_own_scale_along_any_axis(axis):
    weight = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    codes, scale, zero_point = quantize_per_channel(weight, axis)
    assert codes.shape == weight.shape
    others = tuple(i for i in range(3) if i != axis % 3)
    np.testing.assert_allclose(scale, np.abs(weight).max(others) / 127, rtol=1e-6)
    back = dequantize(codes, scale, zero_point, axis)
    assert (np.abs(back - weight).max(others) <= scale * 0.5001).all()


def test_no_axis_means_one_scale_for_all():
    weight = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    codes, scale, zero_point = quantize_per_channel(weight, None)
    assert scale.shape == zero_point.shape == ()
    np.testing.assert_array_equal(codes, [[64, -127], [32, 0]])


def test_a_channel_of_zeros_has_scale_one_and_codes_zero():
    weight = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
    for symmetric in (True, False):
        codes, scale, zero_point = quantize_per_channel(weight, 0, symmetric=symmetric)
        assert scale[0] == 1.0
        assert (codes[0] == zero_point[0]).all()


@given(WEIGHTS, st.booleans(), st.sampled_from([3, 4, 8]))
@settings(max_examples=60)
def test_asymmetric_and_symmetric_codes_restore_every_weight_to_a_step(weight, symmetric, bits):
    codes, scale, zero_point = quantize_per_channel(weight, 0, bits=bits, symmetric=symmetric)
    back = dequantize(codes, scale, zero_point, 0)
    assert (np.abs(back - weight) <= scale[:, None] * 1.001 + 1e-30).all()
    zeros = weight == 0
    assert (back[zeros] == 0).all()


@given(WEIGHTS, st.booleans(), st.sampled_from([3, 4, 8]))
@settings(max_examples=60)
def test_mse_scales_never_lose_more_than_minmax_ones(weight, symmetric, bits):
    def loss(method):
        codes, scale, zero_point = quantize_per_channel(weight, 0, bits=bits, symmetric=symmetric, scale_method=method)
        return np.square(dequantize(codes, scale, zero_point, 0).astype(np.float64) - weight).sum(1)

    minmax = loss("minmax")
    assert (loss("mse") <= minmax * (1 + 1e-5) + 1e-30).all()


def test_mse_scales_gain_where_one_weight_is_an_outlier():
    weight = np.random.default_rng(0).standard_normal((1, 4096)).astype(np.float32)
    weight[0, 0] = 8.0

    def loss(method):
        codes, scale, _ = quantize_per_channel(weight, 0, bits=4, scale_method=method)
        return float(np.square(dequantize(codes, scale, 0, 0) - weight).sum())

    assert loss("mse") < 0.5 * loss("minmax")


def test_the_weight_itself_is_left_alone():
    weight = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    before = weight.copy()
    quantize_per_channel(weight, 1, scale_method="mse")
    np.testing.assert_array_equal(weight, before)


def test_reduced_codes_keep_pairs_of_products_within_16_bits():
    weight = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    codes, _, _ = quantize_per_channel(weight, 0, reduce_range=True)
    assert 255 * 2 * int(np.abs(codes.astype(int)).max()) < 2**15


def test_a_weight_without_values_quantizes_to_nothing():
    codes, scale, _ = quantize_per_channel(np.zeros((2, 0), np.float32), 0)
    assert codes.shape == (2, 0)
    np.testing.assert_array_equal(scale, 1.0)


def test_ties_round_to_even_as_onnx_does():
    x = np.array([0.5, 1.5, 2.5, -0.5], np.float32)
    np.testing.assert_array_equal(quantize(x, np.float32(1), np.int8(0), np.int8), [0, 2, 2, 0])
