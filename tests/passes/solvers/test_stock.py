"""Model Stock: the ratio of its paper, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.parts import gathered, whole
from lwc.passes.solvers.stock import model_stock, offset_products, stock_ratio


def test_the_ratio_of_two_is_that_of_the_paper() -> None:
    cosine = 0.6
    assert stock_ratio(np.array([[1.0, cosine], [0.0, 1.0]])) == pytest.approx(2 * cosine / (1 + cosine))


def test_models_that_agree_are_averaged_and_strangers_leave_the_base() -> None:
    assert stock_ratio(np.ones((3, 3))) == pytest.approx(1.0)
    assert stock_ratio(np.eye(3)) == 0.0


def test_changes_that_cancel_leave_the_base() -> None:
    base = np.zeros(4, np.float32)
    step = np.arange(1, 5, dtype=np.float32)
    parts = whole([step, -step], base)
    np.testing.assert_array_equal(gathered(parts, model_stock(parts)), base)


def test_products_are_those_of_whole_tensors_however_cut() -> None:
    rng = np.random.default_rng(0)
    base, *tensors = rng.standard_normal((4, 50)).astype(np.float32)
    offsets = np.array(tensors, np.float64) - base
    found = offset_products(whole(tensors, base, stretch=7))
    np.testing.assert_allclose(found, np.triu(offsets @ offsets.T), rtol=1e-5, atol=1e-5)


def test_the_result_lies_between_base_and_average() -> None:
    rng = np.random.default_rng(1)
    base = rng.standard_normal(300).astype(np.float32)
    shared = rng.standard_normal(300).astype(np.float32)
    tensors = [base + shared + rng.standard_normal(300).astype(np.float32) for _ in range(3)]
    parts = whole(tensors, base, stretch=64)
    ratio = stock_ratio(offset_products(parts))
    assert 0.3 < ratio < 1.0
    wanted = ratio * np.mean(tensors, axis=0) + (1 - ratio) * base
    np.testing.assert_allclose(gathered(parts, model_stock(parts)), wanted, rtol=1e-5, atol=1e-5)
