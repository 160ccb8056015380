"""TIES and DARE against slow implementations written from their papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lwc.passes.solvers.parts import Parts, gathered, whole
from lwc.passes.solvers.task_vectors import DENSITY, L1, NONE, Drop, Thinning, draw_key, drop, task_sum, trim

Floats = NDArray[np.float32]
models = st.integers(0, 2**20).map(lambda seed: drawn(seed))
few_levels = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=12, max_size=12)


def drawn(seed: int, count: int = 3, size: int = 61) -> list[Floats]:
    return list(np.random.default_rng(seed).standard_normal((count + 1, size)).astype(np.float32))


def parts_of(arrays: Sequence[Floats], stretch: int = 8) -> Parts:
    return whole(arrays[1:], arrays[0], stretch)


def thinned_by(thin: Thinning, offset: Floats) -> Floats:
    found = offset.copy()
    thin(found, 0)
    return found


def merged_by_ties(arrays: Sequence[Floats], weights: Sequence[float], density: float) -> Floats:
    parts = parts_of(arrays)
    thinnings = [trim(parts, k, density) for k in range(len(weights))]
    return gathered(parts, task_sum(parts, weights, thinnings, elect=True, normalize=True))


def slow_ties(arrays: Sequence[Floats], weights: Sequence[float], density: float) -> list[float]:
    """Trim, elect, disjoint mean, value by value (Yadav et al. 2023, algorithm 1)."""
    base, size = arrays[0], arrays[0].size
    trimmed = []
    for array in arrays[1:]:
        offset = array - base
        kept = sorted(range(size), key=lambda k: (-abs(offset[k]), k))[: max(1, int(density * size))]
        trimmed.append([float(offset[k]) if k in kept else 0.0 for k in range(size)])
    found = []
    for k in range(size):
        terms = [np.float32(w) * np.float32(offset[k]) for w, offset in zip(weights, trimmed, strict=True)]
        sign = 1.0 if sum(terms, np.float32(0)) >= 0 else -1.0
        agreeing = [(w, term) for w, term in zip(weights, terms, strict=True) if term * sign > 0]
        total = sum(w for w, _ in agreeing)
        found.append(float(base[k]) + (sum(float(term) for _, term in agreeing) / total if agreeing else 0.0))
    return found


@given(models, st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0]))
def test_ties_is_what_the_paper_says(arrays: list[Floats], density: float) -> None:
    weights = [0.5, 1.0, 2.0]
    np.testing.assert_allclose(
        merged_by_ties(arrays, weights, density), slow_ties(arrays, weights, density), rtol=1e-5, atol=1e-6
    )


@given(few_levels, few_levels, st.sampled_from([0.1, 0.3, 0.6]))
def test_ties_keeps_the_first_of_equal_changes(a: list[float], b: list[float], density: float) -> None:
    arrays = [np.zeros(12, np.float32), np.array(a, np.float32), np.array(b, np.float32)]
    np.testing.assert_allclose(merged_by_ties(arrays, [1.0, 1.0], density), slow_ties(arrays, [1.0, 1.0], density))


@given(few_levels, st.floats(0.05, 0.99), st.integers(1, 20))
def test_trimming_keeps_exactly_so_many(values: list[float], density: float, stretch: int) -> None:
    parts = whole([np.array(values, np.float32)], np.zeros(12, np.float32), stretch)
    thin = trim(parts, 0, density)
    kept = sum(int(thin.mask(part.offsets()[0], part.start).sum()) for part in parts)
    assert kept == max(1, int(density * 12))


@given(st.integers(0, 2**20), st.sampled_from([0.001, 0.2, 0.5, 0.97]), st.sampled_from([1, 3, 1000]))
@settings(max_examples=20)
def test_a_sample_of_a_large_tensor_does_not_change_what_is_kept(seed: int, density: float, levels: int) -> None:
    rng = np.random.default_rng(seed)
    offset = np.sort(np.round(rng.standard_normal(1 << 18) * levels).astype(np.float32))
    thin = trim(whole([offset], np.zeros_like(offset), 1 << 15), 0, density)
    largest = np.argsort(-np.abs(offset), kind="stable")[: int(density * offset.size)]
    assert np.array_equal(np.flatnonzero(thin.mask(offset, 0)), np.sort(largest))


def test_sizes_that_a_sample_misses_are_found() -> None:
    offset = np.zeros(1 << 18, np.float32)
    offset[1::4] = np.arange(1 << 16) + 1.0
    thin = trim(whole([offset], np.zeros_like(offset), 1 << 15), 0, 0.1)
    kept = int(0.1 * (1 << 18))
    assert np.array_equal(np.flatnonzero(thin.mask(offset, 0)), 1 + 4 * np.arange((1 << 16) - kept, 1 << 16))


@given(models)
def test_one_model_that_is_kept_whole_is_itself(arrays: list[Floats]) -> None:
    np.testing.assert_allclose(merged_by_ties(arrays[:2], [1.0], 1.0), arrays[1], rtol=1e-5, atol=1e-6)


def test_task_arithmetic_adds_and_takes_away() -> None:
    base = np.zeros(3, np.float32)
    parts = whole([np.array([1, 0, 2], np.float32), np.array([0, 4, 2], np.float32)], base)
    found = gathered(parts, task_sum(parts, [1.0, -0.5], scale=2.0))
    assert found.tolist() == [2.0, -4.0, 2.0]


def test_weights_that_cancel_are_not_divided_by() -> None:
    parts = parts_of(drawn(0, 2))
    assert np.isfinite(gathered(parts, task_sum(parts, [1.0, -1.0], normalize=True))).all()


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 17))
def test_draws_do_not_depend_on_how_a_tensor_is_cut(start: int, count: int, step: int) -> None:
    thin = Drop(draw_key(0, "w", 1), 0.5)
    pieces = [thin.mask(k, min(step, start + count - k)) for k in range(start, start + count, step)]
    np.testing.assert_array_equal(np.concatenate(pieces), thin.mask(0, start + count)[start:])


def test_draws_differ_by_seed_name_and_model() -> None:
    keys = [draw_key(0, "w", 0), draw_key(1, "w", 0), draw_key(0, "v", 0), draw_key(0, "w", 1)]
    assert len({Drop(key, 0.5).mask(0, 64).tobytes() for key in keys}) == 4


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_the_mean_of_every_value(density: float) -> None:
    draws = 4000
    offset = np.array([1.0, -2.0, 0.25, 8.0], np.float32)
    parts = whole([offset], np.zeros(4, np.float32))
    thinned = [thinned_by(drop(parts, 0, density, draw_key(seed, "w", 0), DENSITY), offset) for seed in range(draws)]
    deviation = np.abs(offset) * np.sqrt((1 - density) / density / draws)
    assert (np.abs(np.mean(thinned, axis=0) - offset) < 5 * deviation).all()


@given(models, st.floats(0.2, 0.9))
def test_the_sum_of_sizes_stays_with_l1(arrays: list[Floats], density: float) -> None:
    parts = parts_of(arrays)
    thin = drop(parts, 1, density, draw_key(3, "w", 1), L1)
    offset = arrays[2] - arrays[0]
    assert np.abs(thinned_by(thin, offset)).sum() == pytest.approx(np.abs(offset).sum(), rel=1e-4)


@pytest.mark.parametrize(("rescale", "factor"), [(NONE, 1.0), (DENSITY, 4.0), (0.5, 2.0)])
def test_what_stays_is_multiplied_as_asked(rescale: str | float, factor: float) -> None:
    ones = np.ones(200, np.float32)
    thin = drop(whole([ones], np.zeros(200, np.float32)), 0, 0.25, 7, rescale)
    assert set(thinned_by(thin, ones).tolist()) == {0.0, factor}


def test_a_density_of_zero_leaves_the_base() -> None:
    arrays = drawn(1)
    np.testing.assert_array_equal(merged_by_ties(arrays, [1.0] * 3, 0.0), arrays[0])


def test_a_tensor_without_values_stays_one() -> None:
    empty = np.zeros((0, 4), np.float32)
    parts = whole([empty, empty], empty)
    thinnings = [trim(parts, k, 0.5) for k in range(2)]
    assert gathered(parts, task_sum(parts, [1.0, 1.0], thinnings, elect=True)).shape == (0, 4)
