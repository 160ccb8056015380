from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.analysis.terms import Mask, Reason, Term, Terms

WHY = Reason("Op", "node", "words")

# An axis as nested tuples: a number of channels, ("x", ...) or ("+", ...).
Tree = int | tuple[object, ...]


def build(terms: Terms, tree: object) -> Term:
    if isinstance(tree, int):
        return terms.atom(tree)
    assert isinstance(tree, tuple)
    kind, *children = tree
    made = [build(terms, child) for child in children]
    return terms.product(made) if kind == "x" else terms.sum(made)


def trees(size: int, depth: int = 2) -> st.SearchStrategy[object]:
    """Every way to write an axis of this size, a few levels deep."""
    found: list[st.SearchStrategy[object]] = [st.just(size)]
    if depth and size > 1:
        for outer in (k for k in range(2, size) if size % k == 0):
            found.append(st.tuples(st.just("x"), trees(outer, depth - 1), trees(size // outer, depth - 1)))
        for first in range(1, size):
            found.append(st.tuples(st.just("+"), trees(first, depth - 1), trees(size - first, depth - 1)))
    return st.one_of(found)


def free(terms: Terms, axes: Sequence[Term]) -> list[Term]:
    pinned = terms.pinned()
    return [atom for atom in dict.fromkeys(a for axis in axes for a in terms.atoms(axis)) if atom not in pinned]


def expressible(terms: Terms, axes: Sequence[Term], atoms: Sequence[Term]) -> set[tuple[bytes, ...]]:
    """All masks of the axes together, over all ways to keep channels of these atoms."""
    choices = [[np.array(bits) for bits in itertools.product((False, True), repeat=terms.size(atom))] for atom in atoms]
    return {
        tuple(terms.keep(axis, dict(zip(atoms, masks, strict=True))).tobytes() for axis in axes)
        for masks in itertools.product(*choices)
    }


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([4, 6, 8]).flatmap(lambda n: st.tuples(trees(n), trees(n))))
def test_what_is_left_fits_both_axes(pair: tuple[object, object]) -> None:
    """By brute force: every mask after unification is one that each of the axes allowed on its own."""
    terms = Terms()
    a, b = (build(terms, tree) for tree in pair)
    alone = [{masks[0] for masks in expressible(terms, [axis], terms.atoms(axis))} for axis in (a, b)]
    terms = Terms()
    a, b = (build(terms, tree) for tree in pair)
    terms.unify(a, b, WHY)
    together = expressible(terms, [a, b], free(terms, [a, b]))
    assert all(x == y for x, y in together)
    assert {x for x, _ in together} <= alone[0] & alone[1]
    mixed = "x" in repr(pair) and "+" in repr(pair)  # parts of one row: the row could leave, and is kept
    if not terms.pinned() and not mixed:
        assert {x for x, _ in together} == alone[0] & alone[1]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([6, 8, 12]).flatmap(
        lambda n: st.tuples(st.lists(trees(n, 3), min_size=2, max_size=5), st.randoms(use_true_random=False))
    )
)
def test_axes_unified_in_any_order_lose_the_same(drawn: tuple[list[object], object]) -> None:
    forest, random = drawn
    terms = Terms()
    axes = [build(terms, tree) for tree in forest]
    pairs = list(itertools.pairwise(axes))
    random.shuffle(pairs)  # type: ignore[attr-defined]
    for a, b in pairs:
        terms.unify(a, b, WHY)
    rng = np.random.default_rng(0)
    kept = {atom: rng.random(terms.size(atom)) < 0.7 for atom in free(terms, axes)}
    masks = [terms.keep(axis, kept) for axis in axes]
    assert all((mask == masks[0]).all() for mask in masks)


@settings(max_examples=200, deadline=None)
@given(trees(12, 3))
def test_positions_are_those_that_leave(tree: object) -> None:
    terms = Terms()
    axis = build(terms, tree)
    for atom, positions in terms.positions(axis).items():
        assert len(positions) == terms.size(atom)
        for channel, places in enumerate(positions):
            gone = np.arange(terms.size(atom)) == channel
            assert np.array_equal(np.flatnonzero(~terms.keep(axis, {atom: ~gone})), places)


def shape(terms: Terms, axis: Term) -> list[int]:
    """Sizes of the atoms that can leave."""
    return [terms.size(atom) for atom in free(terms, [axis])]


def unified(*forest: object) -> tuple[Terms, list[Term]]:
    terms = Terms()
    axes = [build(terms, tree) for tree in forest]
    for a, b in itertools.pairwise(axes):
        terms.unify(a, b, WHY)
    return terms, axes


def test_heads_and_dimensions_are_two_atoms() -> None:
    terms, axes = unified(("x", 4, 8), 32)
    assert shape(terms, axes[1]) == [4, 8]
    kept = {terms.atoms(axes[0])[0]: np.array([1, 0, 1, 1], np.bool_)}
    assert np.array_equal(np.flatnonzero(~terms.keep(axes[1], kept)), np.arange(8, 16))


def test_factors_are_refined_by_common_divisors() -> None:
    terms, axes = unified(("x", 4, 6), ("x", 2, 12))
    assert shape(terms, axes[0]) == [2, 2, 6]


def test_factors_without_common_divisors_are_pinned() -> None:
    terms, axes = unified(("x", 4, 6), ("x", 6, 4))
    assert shape(terms, axes[0]) == []
    assert set(terms.pinned().values()) == {WHY}


def test_parts_are_refined_by_boundaries() -> None:
    terms, axes = unified(("+", 3, 5), ("+", 5, 3))
    assert shape(terms, axes[0]) == [3, 2, 3]


def test_equal_parts_of_a_product_are_one_channel_each() -> None:
    terms, axes = unified(("+", 4, 4, 4), ("x", 3, 4))
    assert shape(terms, axes[0]) == [4]
    assert [reason.words for reason in terms.pinned().values()] == ["it counts parts that are stacked"]


def test_parts_of_several_rows_split_the_outer_factor() -> None:
    terms, axes = unified(("x", 6, 4), ("+", 16, 8))
    assert sorted(shape(terms, axes[0])) == [2, 4, 4]


def test_parts_that_cut_through_rows_are_pinned() -> None:
    terms, axes = unified(("x", 2, 4), ("+", 6, 2))
    assert shape(terms, axes[0]) == []


def test_rotated_halves_are_one_group() -> None:
    terms = Terms()
    first, second = terms.atom(4), terms.atom(4)
    terms.unify(terms.sum([first, second]), terms.sum([second, first]), WHY)
    assert terms.same(first, second)


def test_sizes_that_differ_are_pinned() -> None:
    terms, axes = unified(3, 4)
    assert set(terms.pinned()) == set(axes)


def test_the_first_reason_stays() -> None:
    terms = Terms()
    axis = build(terms, ("x", 2, 3))
    other = Reason("Other", "node", "words")
    terms.pin(terms.atoms(axis)[0], WHY)
    terms.pin(axis, other)
    assert [terms.pinned()[atom] for atom in terms.atoms(axis)] == [WHY, other]


def test_a_mask_of_a_product_is_that_of_rows_and_columns() -> None:
    terms = Terms()
    axis = build(terms, ("x", 2, 3))
    rows, columns = terms.atoms(axis)
    kept: dict[Term, Mask] = {rows: np.array([True, False]), columns: np.array([True, False, True])}
    assert np.array_equal(terms.keep(axis, kept), [True, False, True, False, False, False])


@pytest.mark.parametrize("count", [2000])
def test_long_chains_are_followed(count: int) -> None:
    terms = Terms()
    axes = [terms.atom(6) for _ in range(count)]
    for a, b in itertools.pairwise(axes):
        terms.unify(a, b, WHY)
    terms.unify(axes[-1], terms.product([terms.atom(2), terms.atom(3)]), WHY)
    assert shape(terms, axes[0]) == [2, 3]


def test_stacks_of_stacks_go_deep() -> None:
    terms = Terms()
    first = whole = terms.atom(2)
    for _ in range(3000):
        whole = terms.sum([whole, terms.atom(1)])
    assert len(terms.atoms(whole)) == 3001
    assert np.array_equal(np.flatnonzero(~terms.keep(whole, {first: np.array([True, False])})), [1])
    assert terms.positions(whole)[first].tolist() == [[0], [1]]
