"""Range methods: searches are never worse than minmax in what they minimize."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lwc.passes.solvers.ranges import Blocks, hessian, minmax, mse

WEIGHTS = arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-1e6, 1e6, width=32)
)  # fmt: skip
LIMITS = st.sampled_from([(-8, 7), (-127, 127), (0, 15), (0, 255), (-2, 1)])


def squared(blocks, ends, costs=1.0):
    return (np.square(blocks.errors(*ends).astype(np.float64)) * costs).sum(axis=2)


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 5), LIMITS)
def test_minmax_covers_every_weight(weight, group, limits):
    blocks = Blocks.of(weight, group, *limits)
    ends = minmax(blocks, None)
    scale, _ = blocks.parameters(*ends)
    # Half a step of rounding, and half of what moving the range to an exact zero cuts off an end.
    assert (np.abs(blocks.errors(*ends)) <= 1.001 * scale[..., None]).all()


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 5), LIMITS)
def test_mse_is_never_worse_than_minmax_in_any_block(weight, group, limits):
    blocks = Blocks.of(weight, group, *limits)
    assert (squared(blocks, mse(blocks, None)) <= squared(blocks, minmax(blocks, None))).all()


@pytest.mark.parametrize("limits", [(-8, 7), (0, 15), (-2, 1), (0, 3), (0, 255)])
@pytest.mark.parametrize("degrees", [1, 3, 100])
def test_no_block_is_left_out_before_its_best_share(limits, degrees):
    """Outliers, some of which cost nothing: best shares lie anywhere between both ends."""
    rng = np.random.default_rng(degrees)
    weight = rng.standard_t(degrees, size=(40, 96)).astype(np.float32)
    weight[0], weight[1] = 0.0, np.abs(weight[1])
    costs = rng.exponential(size=96) * (np.arange(96) % 3 > 0)
    blocks = Blocks.of(weight, 16, *limits)
    shares = np.linspace(1.0, 0.3, 71)
    for importance, each in ((None, 1.0), (costs, costs.reshape(6, 16))):
        tried = [squared(blocks, (blocks.low * share, blocks.high * share), each) for share in shares]
        found = squared(blocks, hessian(blocks, importance), each)
        np.testing.assert_allclose(found, np.min(tried, axis=0), rtol=1e-5)
    assert len(np.unique(np.argmin(tried, axis=0))) > 10


@pytest.mark.parametrize("limits", [(-8, 7), (0, 15)])
def test_mse_finds_the_best_of_all_shares(limits):
    weight = np.random.default_rng(0).standard_t(3, size=(5, 24)).astype(np.float32)
    blocks = Blocks.of(weight, 8, *limits)
    shares = np.linspace(1.0, 0.3, 71)
    tried = [squared(blocks, (blocks.low * share, blocks.high * share)) for share in shares]
    assert np.array_equal(squared(blocks, mse(blocks, None)), np.min(tried, axis=0))
    assert (np.argmin(tried, axis=0) > 0).any()


def test_the_hessian_counts_each_column_by_its_importance():
    weight = np.random.default_rng(1).standard_t(3, size=(40, 30)).astype(np.float32)
    importance = np.random.default_rng(2).exponential(size=30) ** 3
    blocks = Blocks.of(weight, 10, -8, 7)
    costs = importance.reshape(3, 10)
    by_hessian, by_mse = (squared(blocks, method(blocks, importance), costs) for method in (hessian, mse))
    assert (by_hessian <= by_mse * (1 + 1e-5)).all()
    assert by_hessian.sum() < 0.95 * by_mse.sum()


def test_the_hessian_reads_the_diagonal_of_a_gram_matrix(layer):
    weight, gram = layer(6, 12)
    blocks = Blocks.of(weight, 4, 0, 15)
    for one, other in zip(hessian(blocks, gram), hessian(blocks, np.diagonal(gram)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("importance", [None, np.full(12, 7.0), np.zeros(12)])
def test_even_importance_is_mse(importance):
    weight = np.random.default_rng(3).standard_t(3, size=(6, 12)).astype(np.float32)
    blocks = Blocks.of(weight, 4, -8, 7)
    for one, other in zip(hessian(blocks, importance), mse(blocks, None), strict=True):
        assert np.array_equal(one, other)


def test_the_last_block_may_be_narrower():
    weight = np.arange(1, 8, dtype=np.float32)[None]
    blocks = Blocks.of(weight, 3, 0, 255)
    assert blocks.weight.shape == (1, 3, 3)
    assert blocks.high.tolist() == [[3.0, 6.0, 7.0]]
    assert mse(blocks, None)[1].shape == (1, 3)


def test_rows_in_many_chunks_are_solved_like_rows_alone():
    weight = np.random.default_rng(4).standard_t(3, size=(300, 256)).astype(np.float32)
    blocks = Blocks.of(weight, 32, -8, 7)
    whole, alone = mse(blocks, None)[1], mse(blocks.rows(299, 300), None)[1]
    assert np.array_equal(whole[299:], alone)
