"""Orders of coupled channels, against all there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwc.passes.solvers.permutation import (
    Likeness,
    Lying,
    Matched,
    Orders,
    assigned,
    match_channels,
    matched_from,
    moved,
)


def plain(group: str, axis: int, size: int) -> Lying:
    """Channels that are the positions of an axis."""
    return Lying(group, axis, np.arange(size)[:, None])


def blocks(group: str, axis: int, count: int, each: int) -> Lying:
    """Channels that are runs of an axis, such as heads."""
    return Lying(group, axis, np.arange(count * each).reshape(count, each))


def strides(group: str, axis: int, count: int, each: int) -> Lying:
    """Channels that every run of an axis has one of."""
    return Lying(group, axis, np.arange(count * each).reshape(count, each).T)


def every(sizes: dict[str, int]) -> Iterator[Orders]:
    names = list(sizes)
    for orders in itertools.product(*(itertools.permutations(range(sizes[name])) for name in names)):
        yield {name: np.array(order) for name, order in zip(names, orders, strict=True)}


def total(terms: Sequence[Matched | Likeness], orders: Orders) -> float:
    return sum(term.value(orders) for term in terms)


def test_in_place_i_is_the_channel_that_the_order_names() -> None:
    array = np.arange(12).reshape(2, 6)
    found = moved(array, [plain("a", 0, 2), blocks("b", 1, 3, 2)], {"a": np.array([1, 0]), "b": np.array([2, 0, 1])})
    assert found.tolist() == [[10, 11, 6, 7, 8, 9], [4, 5, 0, 1, 2, 3]]


def test_groups_that_share_an_axis_move_one_through_the_other() -> None:
    array = np.arange(6)
    orders = {"outer": np.array([1, 2, 0]), "inner": np.array([1, 0])}
    both = [blocks("outer", 0, 3, 2), strides("inner", 0, 3, 2)]
    assert moved(array, both, orders).tolist() == [3, 2, 5, 4, 1, 0]
    assert moved(array, both[::-1], orders).tolist() == [3, 2, 5, 4, 1, 0]


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_an_assignment_is_the_best_of_all(size: int, seed: int) -> None:
    likeness = np.random.default_rng(seed).standard_normal((size, size))
    found = assigned(likeness)
    best = max(sum(likeness[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(size)))
    assert likeness[np.arange(size), found].sum() == pytest.approx(best)


@given(st.integers(0, 2**32 - 1))
def test_a_single_group_is_matched_as_well_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = [
        Matched(*rng.standard_normal((2, 4, 3)), [plain("a", 0, 4)]),
        Matched(*rng.standard_normal((2, 2, 8)), [strides("a", 1, 2, 4)]),
        Likeness(rng.standard_normal((8, 8)), [blocks("a", 0, 4, 2)]),
    ]
    found = match_channels(terms, {"a": 4})
    assert total(terms, found) == pytest.approx(max(total(terms, orders) for orders in every({"a": 4})))


@given(st.integers(0, 2**32 - 1))
def test_no_other_order_of_one_group_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"a": 4, "b": 3}
    terms = [
        Matched(*rng.standard_normal((2, 4, 3)), [plain("a", 0, 4), plain("b", 1, 3)]),
        Matched(*rng.standard_normal((2, 3, 12)), [plain("b", 0, 3), blocks("a", 1, 4, 3)]),
        Likeness(rng.standard_normal((12, 12)), [blocks("a", 0, 4, 3), strides("b", 0, 4, 3)]),
    ]
    found = match_channels(terms, sizes)
    for group, size in sizes.items():
        others = [found | {group: np.array(order)} for order in itertools.permutations(range(size))]
        assert total(terms, found) >= max(total(terms, orders) for orders in others) - 1e-9


@given(st.integers(0, 2**32 - 1))
def test_channels_that_were_shuffled_are_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"a": 7, "b": 5}
    layouts = [
        [plain("a", 0, 7)],
        [plain("a", 1, 7), plain("b", 0, 5)],
        [plain("b", 1, 5)],
    ]
    tensors = [rng.standard_normal(shape) for shape in ((7, 30), (5, 7, 3), (30, 5))]
    shuffled = {group: rng.permutation(size) for group, size in sizes.items()}
    terms = [
        Matched(tensor, moved(tensor, lying, shuffled), lying) for tensor, lying in zip(tensors, layouts, strict=True)
    ]
    found = match_channels(terms, sizes)
    for group, order in found.items():
        assert shuffled[group][order].tolist() == list(range(sizes[group]))


@given(st.integers(0, 2**32 - 1))
def test_a_group_on_two_axes_of_a_tensor_never_loses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lying = [plain("a", 0, 5), plain("a", 1, 5)]
    terms = [Matched(*rng.standard_normal((2, 5, 5)), lying)]
    start = {"a": rng.permutation(5)}
    assert total(terms, matched_from(start, terms)) >= total(terms, start) - 1e-9


def test_what_is_not_finite_moves_nothing() -> None:
    terms = [Matched(np.array([[np.nan], [1.0]]), np.array([[0.0], [1.0]]), [plain("a", 0, 2)])]
    assert match_channels(terms, {"a": 2})["a"].tolist() == [0, 1]


def test_a_group_that_nothing_lies_on_stays() -> None:
    assert match_channels([], {"a": 3})["a"].tolist() == [0, 1, 2]
