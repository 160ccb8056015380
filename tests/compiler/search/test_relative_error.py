"""The error that plans are compared by."""

import numpy as np
import pytest

from lwc.compiler.search.relative_error import relative_error


def test_a_single_value_counts_relative_to_itself() -> None:
    want, got = {"y": np.array([[0.5]], np.float32)}, {"y": np.array([[0.505]], np.float32)}
    assert relative_error(want, got) == pytest.approx(1e-4, rel=1e-3)


def test_several_values_count_relative_to_how_they_vary() -> None:
    want, got = {"y": np.array([100.0, 102.0])}, {"y": np.array([100.0, 103.0])}
    assert relative_error(want, got) == pytest.approx(0.5)


def test_what_is_left_of_silence_counts_relative_to_the_least_power() -> None:
    want, got = {"y": np.array([[1e-3]], np.float32)}, {"y": np.array([[2e-3]], np.float32)}
    assert relative_error(want, got) == pytest.approx(1.0, rel=1e-3)
    assert relative_error(want, got, {"y": 0.25}) == pytest.approx(1e-6 / 0.25, rel=1e-3)
    assert relative_error(want, got, {"y": 1e-9}) == pytest.approx(1.0, rel=1e-3)
