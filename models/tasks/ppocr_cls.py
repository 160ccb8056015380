"""Is a line of text upside down? PP-OCR direction classifier, accuracy.

A sample is {"x": [1, 3, 48, 192] float32, "label": [1] int64}: label 1 means turned by 180 degrees. As PaddleOCR
does, a line is scaled to height 48, squeezed to width 192 if it is wider and padded with zeros if it is narrower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.tasks.drawing import Wear, random_line, scale_to_height, to_network
from lwc.models.tasks.splits import made_item_rng
from lwc.models.tasks.texts import draw_text

CHINESE_SHARE = 0.3

_HEIGHT = 48
_WIDTH = 192
_CALIBRATION_COUNT = 128
_SIZES = (14, 28)
_WEAR = Wear(blur=1.4, noise=18.0, jpeg=22)


def samples(
    count: int, seed: int = 0, split: str = "calibration", chinese_share: float = CHINESE_SHARE
) -> Iterator[dict[str, NDArray[Any]]]:
    """Drawn lines, each turned by 180 degrees with probability one half."""
    for index in range(count):
        rng = made_item_rng("ppocr-cls", seed, split, index)
        text, language = draw_text(rng, split, chinese_share)
        picture = random_line(rng, text, language, _SIZES, _WEAR)
        turned = int(rng.integers(2))
        picture = picture[::-1, ::-1] if turned else picture
        x = to_network(scale_to_height(picture, _HEIGHT, widest=_WIDTH), _WIDTH)
        yield {"x": x, "label": np.array([turned], dtype=np.int64)}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.ppocr_cls:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """1 when the more probable direction is the true one, else 0; outputs: one array [1, 2]."""
    (probabilities,) = outputs.values()
    return float(probabilities[0].argmax() == sample["label"][0])
