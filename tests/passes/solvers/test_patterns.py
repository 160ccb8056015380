from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.patterns import Blocks, NofM, pattern_of


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 2)]), st.integers(0, 99))
def test_of_every_m_inputs_exactly_n_stay_and_they_are_the_best(outputs, inputs, form, seed) -> None:
    kept, among = form
    scores = drawn(outputs, inputs, seed=seed)
    mask = NofM(kept, among).select(scores)
    assert mask.shape == scores.shape
    for row, start in itertools.product(range(outputs), range(0, inputs, among)):
        stays, group = mask[row, start : start + among], scores[row, start : start + among]
        assert stays.sum() == min(kept, len(group))
        if not stays.all():
            assert group[stays].min() >= group[~stays].max()


@pytest.mark.parametrize("shape", [(8, 12), (7, 10), (3, 5)])
@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (2, 3), (16, 1)])
def test_blocks_stay_or_leave_whole(shape, rows, columns) -> None:
    scores = np.square(drawn(*shape))
    mask = Blocks(rows, columns, 0.5).select(scores)
    across = -(-shape[1] // columns)
    for top in range(0, shape[0], rows):
        band = mask[top : top + rows]
        states = [band[:, at : at + columns] for at in range(0, shape[1], columns)]
        assert all(state.all() or not state.any() for state in states)
        assert sum(state.any() for state in states) == int(0.5 * across + 0.5)
        sums = [scores[top : top + rows, at : at + columns].sum() for at in range(0, shape[1], columns)]
        stay = [total for total, state in zip(sums, states, strict=True) if state.any()]
        leave = [total for total, state in zip(sums, states, strict=True) if not state.any()]
        assert min(stay) >= max(leave, default=0.0)


def test_a_band_keeps_at_least_one_block() -> None:
    assert Blocks(2, 2, 0.01).select(np.square(drawn(4, 6))).sum() == 2 * 4


def test_patterns_are_read_from_their_names() -> None:
    assert pattern_of("2:4") == NofM(2, 4)
    assert pattern_of("block:16x1", 0.1) == Blocks(16, 1, 0.1)


@pytest.mark.parametrize("text", ["4:2", "0:4", "4:4", "2:4x", "block:0x4", "block:4", "4x1", "", "block:4x1 "])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(BadPlan, match="pattern"):
        pattern_of(text)


@pytest.mark.parametrize("density", [0.0, 1.5, float("nan")])
def test_densities_that_keep_nothing_or_too_much_are_refused(density: float) -> None:
    with pytest.raises(BadPlan):
        pattern_of("block:4x1", density)
