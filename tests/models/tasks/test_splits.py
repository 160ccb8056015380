"""Which items a task shows."""

from __future__ import annotations

import pytest

from lwc.models.tasks.splits import draw, half_of, made_item_rng


@pytest.mark.parametrize("total", [0, 1, 2, 7, 100])
def test_halves_share_nothing_and_cover_everything(total: int) -> None:
    first, second = half_of(total, "calibration"), half_of(total, "test")
    assert sorted(first + second) == list(range(total))
    assert 0 <= len(first) - len(second) <= 1


def test_items_of_one_seed_are_never_in_the_other_split_of_another_seed() -> None:
    assert not set(draw(100, 50, 1, "calibration")) & set(draw(100, 50, 2, "test"))


def test_the_same_seed_draws_the_same_items_and_another_seed_others() -> None:
    assert draw(100, 10, 3, "test") == draw(100, 10, 3, "test")
    assert draw(100, 10, 3, "test") != draw(100, 10, 4, "test")


def test_a_smaller_count_is_the_beginning_of_a_larger_one() -> None:
    assert draw(100, 10, 3, "test") == draw(100, 40, 3, "test")[:10]


def test_draws_no_item_twice_and_no_more_than_the_half() -> None:
    drawn = draw(11, 99, 0, "calibration")
    assert len(drawn) == len(set(drawn)) == 6


def test_refuses_an_unknown_split() -> None:
    with pytest.raises(ValueError, match="'train'"):
        half_of(4, "train")


def test_a_made_item_depends_on_task_seed_split_and_place_alone() -> None:
    first = made_item_rng("a", 0, "test", 0).random()
    assert made_item_rng("a", 0, "test", 0).random() == first
    others = [("b", 0, "test", 0), ("a", 1, "test", 0), ("a", 0, "calibration", 0), ("a", 0, "test", 1)]
    assert all(made_item_rng(*key).random() != first for key in others)
