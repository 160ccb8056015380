"""From probability maps to boxes, and boxes against the truth."""

import numpy as np

from lwc.models.tasks.boxes import IOU_THRESHOLDS, boxes_from_map, matches, mean_f1, overlap


def probability_map(*rectangles: tuple[int, int, int, int], value: float = 0.9) -> np.ndarray:
    drawn = np.zeros((100, 200), dtype=np.float32)
    for left, top, right, bottom in rectangles:
        drawn[top:bottom, left:right] = value
    return drawn


def test_each_region_gives_one_box_grown_by_area_over_perimeter() -> None:
    (box,) = boxes_from_map(probability_map((20, 30, 79, 39)))
    left, top, right, bottom = box
    grow = 60 * 10 / (2 * 70)
    assert np.abs(np.array([left, top]) - [20 - grow, 30 - grow]).max() <= 1.0
    assert np.abs(np.array([right, bottom]) - [79 + grow, 39 + grow]).max() <= 1.0


def test_separate_regions_give_separate_boxes_inside_the_page() -> None:
    boxes = boxes_from_map(probability_map((0, 0, 50, 10), (120, 90, 200, 100)))
    assert len(boxes) == 2
    assert boxes.min() >= 0.0
    assert boxes[:, 2].max() <= 200.0
    assert boxes[:, 3].max() <= 100.0


def test_faint_and_tiny_regions_are_dropped() -> None:
    assert boxes_from_map(probability_map((20, 30, 80, 40), value=0.4)).shape == (0, 4)
    assert boxes_from_map(probability_map((20, 30, 80, 40), value=0.2)).shape == (0, 4)
    assert boxes_from_map(probability_map((20, 30, 80, 31))).shape == (0, 4)
    assert boxes_from_map(np.zeros((10, 10), dtype=np.float32)).shape == (0, 4)


def test_overlap_of_known_boxes() -> None:
    first = np.array([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0], [3.0, 3.0, 3.0, 3.0]])
    second = np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0], [3.0, 3.0, 3.0, 3.0]])
    expected = [[1 / 3, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(overlap(first, second), expected)


def test_a_box_is_matched_once() -> None:
    overlaps = np.array([[0.9, 0.8], [0.85, 0.1], [0.0, 0.7]])
    assert matches(overlaps, 0.5) == 2
    assert matches(overlaps, 0.75) == 1
    assert matches(overlaps, 0.95) == 0
    assert matches(np.zeros((0, 3)), 0.5) == 0


def test_mean_f1_of_perfect_missing_and_half_found_pages() -> None:
    truth = np.array([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    nothing = np.zeros((0, 4))
    assert mean_f1(truth, truth) == 1.0
    assert mean_f1(nothing, truth) == 0.0
    assert mean_f1(truth, nothing) == 0.0
    assert mean_f1(nothing, nothing) == 1.0
    assert np.isclose(mean_f1(truth[:1], truth), 2 / 3)


def test_mean_f1_counts_thresholds_that_are_reached() -> None:
    truth = np.array([[0.0, 0.0, 10.0, 10.0]])
    found = np.array([[0.0, 0.0, 10.0, 6.2]])
    reached = sum(threshold <= 0.62 for threshold in IOU_THRESHOLDS)
    assert np.isclose(mean_f1(found, truth), reached / len(IOU_THRESHOLDS))
