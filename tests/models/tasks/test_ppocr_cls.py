"""The line direction's metric and samples."""

import numpy as np
import pytest

pytest.importorskip("PIL")
from lwc.models.tasks.ppocr_cls import metric, samples


def test_metric_is_one_for_the_more_probable_direction() -> None:
    probabilities = np.array([[0.3, 0.7]], dtype=np.float32)
    assert metric({"p": probabilities}, {"label": np.array([1])}) == 1.0
    assert metric({"p": probabilities}, {"label": np.array([0])}) == 0.0


@pytest.mark.zoo
def test_half_of_the_lines_are_turned() -> None:
    items = list(samples(100))
    assert all(item["x"].shape == (1, 3, 48, 192) for item in items)
    assert 30 < sum(int(item["label"][0]) for item in items) < 70
