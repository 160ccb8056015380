"""Best path decoding and character accuracy of the reader's task."""

import numpy as np
import pytest

pytest.importorskip("PIL")
from lwc.models.tasks.ppocr_rec import character_accuracy, collapse, edit_distance, metric


@pytest.mark.parametrize(
    ("path", "read"),
    [([], []), ([0, 0], []), ([0, 3, 3, 0, 3, 5, 5, 0], [3, 3, 5]), ([7], [7]), ([2, 2, 4, 4, 2], [2, 4, 2])],
)
def test_collapse_merges_neighbours_and_drops_blanks(path: list[int], read: list[int]) -> None:
    assert collapse(np.array(path, dtype=np.int64)) == read


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abc", "abc", 0)],
)
def test_edit_distance_of_known_pairs(first: str, second: str, distance: int) -> None:
    assert edit_distance([*map(ord, first)], [*map(ord, second)]) == distance


def test_edit_distance_agrees_with_exhaustive_recursion() -> None:
    def slow(first: list[int], second: list[int]) -> int:
        if not first or not second:
            return len(first) + len(second)
        replaced = slow(first[1:], second[1:]) + (first[0] != second[0])
        return min(replaced, slow(first[1:], second) + 1, slow(first, second[1:]) + 1)

    rng = np.random.default_rng(0)
    for _ in range(40):
        first, second = (rng.integers(3, size=rng.integers(6)).tolist() for _ in range(2))
        assert edit_distance(first, second) == slow(first, second)


def test_character_accuracy_is_never_negative() -> None:
    assert character_accuracy([1, 2, 3], [1, 2, 3]) == 1.0
    assert character_accuracy([1, 2], [1, 2, 3, 4]) == 0.5
    assert character_accuracy([5, 6, 7, 8], [1]) == 0.0
    assert character_accuracy([], []) == 1.0
    assert character_accuracy([1], []) == 0.0


def test_metric_reads_the_best_class_of_each_step() -> None:
    scores = np.zeros((1, 6, 10), dtype=np.float32)
    for step, number in enumerate([0, 4, 4, 0, 4, 9]):
        scores[0, step, number] = 1.0
    assert metric({"scores": scores}, {"label": np.array([[4, 4, 9]])}) == 1.0
    assert metric({"scores": scores}, {"label": np.array([[4, 4, 8, 8]])}) == 0.5


@pytest.mark.zoo
def test_lines_are_drawn_at_width_multiples_of_32_with_known_characters() -> None:
    from lwc.models.tasks.ppocr_rec import character_classes, samples

    items = list(samples(40, split="test"))
    widths = {item["x"].shape[3] for item in items}
    assert len(widths) > 3
    assert all(width >= 320 and width % 32 == 0 for width in widths)
    letters = {number: character for character, number in character_classes().items()}
    texts = ["".join(letters[number] for number in item["label"][0]) for item in items]
    assert all(len(text) >= 3 for text in texts)
    assert any(text.isascii() for text in texts)
    assert any(not text.isascii() for text in texts)


@pytest.mark.zoo
def test_the_splits_share_no_text() -> None:
    from lwc.models.tasks.ppocr_rec import samples

    texts = [{tuple(item["label"][0]) for item in samples(100, split=split)} for split in ("calibration", "test")]
    assert not texts[0] & texts[1]
