"""Weights solved toward what a layer gave before: never worse on unseen rows, exact where the answer is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.passes.solvers.toward import Pairs, solved, solved_toward


def folds_of(now: Any, wanted: Any) -> tuple[Pairs, Pairs]:
    found = (Pairs.none(wanted.shape[1], now.shape[1]), Pairs.none(wanted.shape[1], now.shape[1]))
    for k in (0, 1):
        found[k].add(now[k::2], wanted[k::2])
    return found


def test_error_is_that_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    now, wanted, weight = rng.standard_normal((50, 4)), rng.standard_normal((50, 3)), rng.standard_normal((3, 4))
    pairs = Pairs.none(3, 4)
    pairs.add(now[:20], wanted[:20])
    pairs.add(now[20:], wanted[20:])
    assert pairs.error(weight) == pytest.approx(np.square(wanted - now @ weight.T).sum(), rel=1e-5)


def test_finds_the_weight_that_undoes_a_change_of_the_inputs() -> None:
    rng = np.random.default_rng(2)
    before, weight = rng.standard_normal((400, 6)), rng.standard_normal((3, 6))
    mix = np.eye(6) + 0.1 * rng.standard_normal((6, 6))
    now = before @ mix
    new = solved_toward(weight, folds_of(now, before @ weight.T))
    assert new is not None
    assert np.allclose(now @ new.T, before @ weight.T, atol=0.02)


def test_a_weight_that_is_right_stays() -> None:
    rng = np.random.default_rng(3)
    now, weight = rng.standard_normal((60, 5)), rng.standard_normal((2, 5))
    assert solved_toward(weight, folds_of(now, now @ weight.T)) is None


def test_rows_that_explain_nothing_leave_the_weight() -> None:
    rng = np.random.default_rng(4)
    now, weight = rng.standard_normal((12, 30)), np.zeros((4, 30))
    assert solved_toward(weight, folds_of(now, rng.standard_normal((12, 4)))) is None


@pytest.mark.parametrize("gram", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)])
def test_what_cannot_be_solved_leaves_the_weight(gram: Any) -> None:
    assert solved(np.ones((2, 3)), Pairs(gram, np.ones((2, 3))), 0.1) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 4), st.sampled_from([1e-3, 0.1, 10.0]))
def test_solves_the_ridge_regression(seed: int, inputs: int, outputs: int, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    now, wanted = rng.standard_normal((20, inputs)), rng.standard_normal((20, outputs))
    weight, pairs = rng.standard_normal((outputs, inputs)), Pairs.none(outputs, inputs)
    pairs.add(now, wanted)
    new = solved(weight, pairs, ridge)
    assert new is not None

    def objective(w: Any) -> float:
        return pairs.error(w) + ridge * np.trace(pairs.gram) / inputs * float(np.square(w - weight).sum())

    for _ in range(5):
        assert objective(new) <= objective(new + 0.01 * rng.standard_normal(new.shape)) * (1 + 1e-9)
