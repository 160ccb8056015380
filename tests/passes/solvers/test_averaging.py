"""Averages do not depend on the order of models or on how tensors are cut, and arcs end where they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lwc.passes.solvers.averaging import linear, slerp, slerp_shares
from lwc.passes.solvers.parts import gathered, whole

Floats = NDArray[np.float32]


def tensors(count: int, seed: int, size: int = 37) -> list[Floats]:
    return list(np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32))


def averaged(arrays: list[Floats], weights: list[float], stretch: int = 8) -> Floats:
    parts = whole(arrays, stretch=stretch)
    return gathered(parts, linear(parts, weights))


def on_arc(x: Floats, y: Floats, t: float, stretch: int = 8) -> Floats:
    parts = whole([x, y], stretch=stretch)
    return gathered(parts, slerp(parts, t))


@given(st.permutations(range(4)), st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4), st.integers(0, 99))
def test_linear_does_not_depend_on_the_order_of_models(order: list[int], weights: list[float], seed: int) -> None:
    arrays = tensors(4, seed)
    turned = averaged([arrays[k] for k in order], [weights[k] for k in order])
    np.testing.assert_allclose(averaged(arrays, weights), turned, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3), st.integers(1, 50))
def test_linear_is_the_weighted_mean_however_tensors_are_cut(weights: list[float], stretch: int) -> None:
    arrays = tensors(3, 0)
    wanted = np.average(np.asarray(arrays, np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(averaged(arrays, weights, stretch), wanted, rtol=1e-5, atol=1e-6)


def test_linear_keeps_the_largest_numbers_finite() -> None:
    largest = np.full(3, np.finfo(np.float32).max)
    assert np.isfinite(averaged([largest, largest, largest], [1.0, 1.0, 1.0])).all()


def test_linear_keeps_a_shared_mask() -> None:
    mask = np.arange(37) % 4 == 0
    found = averaged([array * mask for array in tensors(3, 1)], [0.2, 0.3, 0.5])
    assert (found[~mask] == 0).all()
    assert (found[mask] != 0).all()


def test_linear_keeps_the_type_of_the_tensors() -> None:
    assert averaged([array.astype(np.float16) for array in tensors(2, 0)], [1.0, 1.0]).dtype == np.float16


@given(st.integers(0, 99))
def test_slerp_ends_at_both_tensors(seed: int) -> None:
    x, y = tensors(2, seed)
    np.testing.assert_allclose(on_arc(x, y, 0.0), x, atol=1e-6)
    np.testing.assert_allclose(on_arc(x, y, 1.0), y, atol=1e-6)


@given(st.floats(0.0, 1.0), st.integers(0, 99))
def test_slerp_of_equal_lengths_keeps_the_length(t: float, seed: int) -> None:
    x, y = (array / np.linalg.norm(array) for array in tensors(2, seed))
    assert np.linalg.norm(on_arc(x, y, t)) == pytest.approx(1.0, abs=1e-4)


def test_slerp_takes_equal_steps_of_angle() -> None:
    x, y = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    np.testing.assert_allclose(on_arc(x, y, 1 / 3), [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-6)


@pytest.mark.parametrize("factor", [1.0, -1.0, 2.0])
def test_slerp_is_straight_where_the_directions_are_one_line(factor: float) -> None:
    x = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_allclose(on_arc(x, np.float32(factor) * x, 0.25), (0.75 + 0.25 * factor) * x, atol=1e-6)


def test_slerp_from_zeros_is_at_right_angles() -> None:
    assert slerp_shares(0.0, 0.0, 2.0, 0.5) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
