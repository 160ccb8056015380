"""Finding lines of text on a page: PP-OCRv4 detector, differentiable binarization, mean F1 over IoU 0.5 to 0.8.

A sample is {"x": [1, 3, 640, 640] float32, "label": [1, n, 4] float64}: the boxes (left, top, right, bottom)
around the ink of the n lines drawn on the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.tasks.boxes import boxes_from_map, mean_f1
from lwc.models.tasks.drawing import Box, Ink, Page, Wear, random_font, random_ink, to_network, wear
from lwc.models.tasks.splits import made_item_rng
from lwc.models.tasks.texts import draw_text

CHINESE_SHARE = 0.3

_SIDE = 640
_SIZES = (18, 40)
_CALIBRATION_COUNT = 64
_WEAR = Wear(blur=0.8, noise=10.0, jpeg=40)


def samples(
    count: int, seed: int = 0, split: str = "calibration", chinese_share: float = CHINESE_SHARE
) -> Iterator[dict[str, NDArray[Any]]]:
    """Drawn pages with the boxes of their lines."""
    for index in range(count):
        rng = made_item_rng("ppocr-det", seed, split, index)
        page, boxes = draw_page(rng, split, chinese_share)
        picture = wear(page.picture(), rng, _WEAR)
        yield {"x": to_network(picture), "label": np.array([boxes], dtype=np.float64).reshape(1, -1, 4)}


def draw_page(rng: np.random.Generator, split: str, chinese_share: float) -> tuple[Page, list[Box]]:
    """A page of one ink, filled from top to bottom with one or two lines side by side."""
    ink: Ink = random_ink(rng)
    page = Page(_SIDE, ink)
    boxes = []
    top = int(rng.integers(8, 60))
    while top < _SIDE - _SIZES[1] - 8:
        left, lowest = int(rng.integers(8, 120)), top
        while left < _SIDE - 120:
            text, language = draw_text(rng, split, chinese_share)
            box = page.write(text, random_font(rng, language, _SIZES), left, top)
            if box is None:
                break
            boxes.append(box)
            left, lowest = box[2] + int(rng.integers(40, 200)), max(lowest, box[3])
        top = max(lowest, top + _SIZES[0]) + int(rng.integers(10, 60))
    return page, boxes


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.ppocr_det:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """Mean F1 of one page; outputs: one map of text probability [1, 1, height, width]."""
    (probability,) = outputs.values()
    return mean_f1(boxes_from_map(probability[0, 0]), sample["label"][0])
