import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import answers, assert_agrees, model


def test_vectors_end_within_the_tensor_where_indices_meet_64_bit_data() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    text = "agraph (float[3, 5, 7] x, int64 k) => (float[3, 5, 7] y) { y = Trilu <upper = 1> (x, k) }"
    for k in (-2, 0, 3):
        assert_agrees(text, {"x": x, "k": np.array(k)})


def test_lanes_behind_the_end_divide_by_nothing() -> None:
    """Strides that are given when it runs: how many elements there are is a division by them."""
    text = """agraph (float[1, 5, 4] boxes, float[1, 1, 5] scores) => (int64[n, 3] y)
    <int64 most = {3}, float overlap = {0.5}, float least = {0.1}> {
        y = NonMaxSuppression (boxes, scores, most, overlap, least)
    }"""
    corners = [[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [5, 5, 6, 6]]
    feeds = {"boxes": np.array([corners], np.float32), "scores": np.array([[[0.9, 0.8, 0.7, 0.95, 0.05]]], np.float32)}
    assert_agrees(text, feeds)


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3), (2, 3, 0)])
def test_tensors_without_elements(shape: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    text = f"""agraph (float[{dims}] x) => (float[{dims}] y, float[k] z) <int64[1] axes = {{-1}}> {{
        y = Relu (x)
        z = ReduceSum <keepdims = 0> (x, axes)
    }}"""
    x = np.zeros(shape, np.float32)
    y, z = answers(model(text), {"x": x})
    assert y.shape == shape
    np.testing.assert_array_equal(z, x.sum(axis=-1))
