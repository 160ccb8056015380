"""The text detector's metric and pages."""

import numpy as np
import pytest

pytest.importorskip("PIL")
from lwc.models.tasks.boxes import overlap
from lwc.models.tasks.ppocr_det import metric, samples


def test_metric_scores_the_map_against_the_boxes() -> None:
    probability = np.zeros((1, 1, 100, 200), dtype=np.float32)
    probability[0, 0, 34:46, 24:96] = 0.9
    truth = np.array([[[20.0, 30.0, 100.0, 50.0]]])
    assert metric({"p": probability}, {"label": truth}) > 0.8
    assert metric({"p": np.zeros_like(probability)}, {"label": truth}) == 0.0


@pytest.mark.zoo
def test_pages_hold_several_lines_that_do_not_overlap() -> None:
    for item in samples(4, split="test"):
        boxes = item["label"][0]
        assert len(boxes) >= 5
        assert np.count_nonzero(overlap(boxes, boxes)) == len(boxes)
        assert boxes.min() >= 0
        assert boxes.max() <= 640
