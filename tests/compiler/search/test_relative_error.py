"""The error that plans are compared by."""

import numpy as np
import pytest

from lwc.compiler.search.evaluate import relative_error


def test_a_single_value_counts_relative_to_itself() -> None:
    want, got = {"y": np.array([[0.5]], np.float32)}, {"y": np.array([[0.505]], np.float32)}
    assert relative_error(want, got) == pytest.approx(1e-4, rel=1e-3)


def test_several_values_count_relative_to_how_they_vary() -> None:
    want, got = {"y": np.array([100.0, 102.0])}, {"y": np.array([100.0, 103.0])}
    assert relative_error(want, got) == pytest.approx(0.5)
