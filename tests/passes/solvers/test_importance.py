"""Averages by importance: limits that are known."""

from __future__ import annotations

import numpy as np

from lwc.passes.solvers.importance import weighted_average

A, B = np.arange(6.0).reshape(2, 3), np.full((2, 3), 10.0)


def test_equal_importance_is_the_weighted_average() -> None:
    ones = np.ones(3)
    np.testing.assert_allclose(weighted_average([A, B], [ones, ones], (1, 3)), (A + 3 * B) / 4)


def test_what_only_one_model_uses_is_taken_from_it() -> None:
    found = weighted_average([A, B], [np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])], (1, 1))
    np.testing.assert_allclose(found[:, 0], A[:, 0], atol=1e-4)
    np.testing.assert_allclose(found[:, 1], B[:, 1], atol=1e-4)
    np.testing.assert_allclose(found[:, 2], (A + B)[:, 2] / 2)


def test_what_no_model_uses_is_averaged() -> None:
    np.testing.assert_allclose(weighted_average([A, B], [np.zeros(3)] * 2, (1, 1)), (A + B) / 2)
