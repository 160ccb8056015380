"""Reading a line of text: PP-OCRv4 reader, connectionist temporal classification, character accuracy.

    accuracy = max(0, 1 - d / n)     d: edit distance to the drawn text, n: its number of characters

A sample is {"x": [1, 3, 48, W] float32, "label": [1, n] int64}; the label holds the network's own class numbers,
class 0 is the blank. W follows the text, in steps of 32 and at least 320, as PaddleOCR pads its crops.
Network and decoding: Du et al. 2020, PP-OCR; Graves et al. 2006 for the blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lwc.models import zoo
from lwc.models.tasks.drawing import Wear, random_line, scale_to_height, to_network
from lwc.models.tasks.splits import made_item_rng
from lwc.models.tasks.texts import draw_text

CHINESE_SHARE = 0.3

_HEIGHT = 48
_NARROWEST = 320
_WIDTH_STEP = 32
_CALIBRATION_COUNT = 128
_SIZES = (24, 44)
_WEAR = Wear(blur=0.8, noise=10.0, jpeg=40)


def samples(
    count: int, seed: int = 0, split: str = "calibration", chinese_share: float = CHINESE_SHARE
) -> Iterator[dict[str, NDArray[Any]]]:
    """Drawn lines with their class numbers; chinese_share of them in Chinese."""
    classes = character_classes()
    for index in range(count):
        rng = made_item_rng("ppocr-rec", seed, split, index)
        text, language = draw_text(rng, split, chinese_share)
        while not classes.keys() >= set(text):
            text, language = draw_text(rng, split, chinese_share)
        picture = scale_to_height(random_line(rng, text, language, _SIZES, _WEAR), _HEIGHT)
        width = max(_NARROWEST, -(-picture.shape[1] // _WIDTH_STEP) * _WIDTH_STEP)
        label = np.array([[classes[character] for character in text]], dtype=np.int64)
        yield {"x": to_network(picture, width), "label": label}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.ppocr_rec:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """Character accuracy of one line; outputs: one array of class scores [1, steps, classes]."""
    (scores,) = outputs.values()
    return character_accuracy(collapse(scores[0].argmax(axis=-1)), sample["label"][0].tolist())


@lru_cache(maxsize=1)
def character_classes() -> dict[str, int]:
    """Class number of every character the reader knows: its metadata's list from 1 on, the space last."""
    model = onnx.load(zoo.path("ppocr-v4-rec"), load_external_data=False)
    listed = next(entry.value for entry in model.metadata_props if entry.key == "character")
    return {character: number for number, character in enumerate([*listed.splitlines(), " "], start=1)}


def collapse(classes: NDArray[np.integer[Any]]) -> list[int]:
    """Best path decoding: merge equal neighbours, then drop blanks. classes: [steps] -> list of classes."""
    changed = np.ones(classes.shape, dtype=np.bool_)
    changed[1:] = classes[1:] != classes[:-1]
    kept: list[int] = classes[changed & (classes != 0)].tolist()
    return kept


def character_accuracy(read: list[int], truth: list[int]) -> float:
    """1 - edit distance / length of the truth, at least 0; an empty truth counts as read when nothing was."""
    if not truth:
        return 0.0 if read else 1.0
    return max(0.0, 1.0 - edit_distance(read, truth) / len(truth))


def edit_distance(first: list[int], second: list[int]) -> int:
    """Fewest insertions, deletions and replacements from one to the other (Levenshtein 1966)."""
    costs = list(range(len(second) + 1))
    for row, left in enumerate(first, start=1):
        diagonal, costs[0] = costs[0], row
        for column, right in enumerate(second, start=1):
            replaced = diagonal + (left != right)
            diagonal = costs[column]
            costs[column] = min(replaced, diagonal + 1, costs[column - 1] + 1)
    return costs[-1]
