"""The digits under three shifts of the data, for models that are merged: each learned one shift, all are wanted.

rotated    turned by 45 degrees, corners filled with the background
noisy      Gaussian noise on every pixel, of half the deviation that all pixels have
inverted   dark on light
"""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lwc.compiler.core.errors import UsageError
from lwc.models import digits

Shift = Literal["rotated", "noisy", "inverted"]

SHIFTS: tuple[Shift, ...] = ("rotated", "noisy", "inverted")
DEGREES = 45.0
NOISE = 0.5


def arrays(shift: Shift, split: digits.Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Shifted images [n, 1, 32, 32] and labels [n] of one split; the same at every call. Raises UsageError."""
    images, labels = digits.arrays(split)
    if shift == "rotated":
        background = float(images.min())
        return ndimage.rotate(images, DEGREES, axes=(3, 2), reshape=False, order=1, cval=background), labels
    if shift == "noisy":
        rng = np.random.default_rng(zlib.crc32(f"{shift} {split}".encode()))
        return images + NOISE * rng.standard_normal(images.shape, np.float32), labels
    if shift == "inverted":
        return digits.inverted(images), labels
    raise UsageError(f"There is no shift {shift!r} of the digits.", f"Choose one of {', '.join(SHIFTS)}.")


def samples(shift: Shift, split: digits.Split) -> list[digits.Sample]:
    """One dictionary per image: "x" float32 [1, 1, 32, 32] and "label" int64 []."""
    images, labels = arrays(shift, split)
    return [{"x": image[None], "label": label} for image, label in zip(images, map(np.asarray, labels), strict=True)]


def rotated() -> list[digits.Sample]:
    """Of the training part, for `--calib lwc.models.shifted_digits:rotated`."""
    return samples("rotated", "calibration")


def noisy() -> list[digits.Sample]:
    """Of the training part, for `--calib lwc.models.shifted_digits:noisy`."""
    return samples("noisy", "calibration")


def inverted() -> list[digits.Sample]:
    """Of the training part, for `--calib lwc.models.shifted_digits:inverted`."""
    return samples("inverted", "calibration")
