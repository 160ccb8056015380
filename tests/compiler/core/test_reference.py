from __future__ import annotations

import warnings

import numpy as np

from lwc.compiler.core.reference import computed


def test_gives_every_output_of_an_operator() -> None:
    x = np.arange(6, dtype=np.float32)
    found = computed("Split", 18, [x, None], 3, {"axis": 0, "num_outputs": 3})
    assert found is not None
    np.testing.assert_array_equal(found, x.reshape(3, 2))


def test_the_version_decides() -> None:
    x = np.ones((2, 3), np.float32)
    axes = np.array([1])
    assert computed("ReduceSum", 13, [x, axes], 1, {}) is not None
    assert computed("ReduceSum", 11, [x, axes], 1, {}) is None


def test_refuses_what_is_unknown_or_invalid() -> None:
    assert computed("NoSuchOperator", 17, [np.ones(2)], 1, {}) is None
    assert computed("Reshape", 17, [np.ones(3), np.array([2, 2])], 1, {}) is None


def test_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = computed("Div", 17, [np.ones(1, np.float32), np.zeros(1, np.float32)], 1, {})
    assert found is not None
    assert np.isinf(found[0]).all()
