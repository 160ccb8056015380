import numpy as np
import pytest

from lwc.backends.tvm.schedules.winograd_filter import POINTS, minimal


@pytest.mark.parametrize("size", POINTS)
def test_filters_exactly_as_the_definition_does(size: int) -> None:
    rng = np.random.default_rng(0)
    d, g = rng.integers(-9, 9, (size + 2, size + 2)), rng.integers(-9, 9, (3, 3))
    filter_ = minimal(size)
    to, back = filter_.data[0] @ filter_.data[1], filter_.out[0] @ filter_.out[1]
    y = back @ ((filter_.weight @ g @ filter_.weight.T) * (to @ d @ to.T)) @ back.T
    windows = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
    np.testing.assert_allclose(y, np.einsum("yxij,ij->yx", windows, g), atol=1e-9)


@pytest.mark.parametrize("size", POINTS)
def test_transformations_add_few_products(size: int) -> None:
    """What a factor multiplies by is a short binary number, so that no digit of the data is lost in it."""
    filter_ = minimal(size)
    for factor in (*filter_.data, *filter_.out):
        assert np.array_equal(factor * 4, np.round(factor * 4))
        assert np.count_nonzero(factor, axis=1).max() <= 4
