"""Three small trained classifiers of handwritten digits, and the samples to calibrate and score them.

The data is scikit-learn's `load_digits` (Alpaydin & Kaynak 1998: 1,797 images of 8x8, UCI), enlarged to
32x32. Every third image is in the test part and was never trained on. `train_digits` trained the models.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import MissingDependency, UsageError

Kind = Literal["cnn", "transformer", "gru"]
Split = Literal["calibration", "test"]
Sample = dict[str, NDArray[np.generic]]

KINDS: tuple[Kind, ...] = ("cnn", "transformer", "gru")
SIZE = 32
_TEST_EVERY = 3
# Mean and deviation of the enlarged training images, pixels scaled to 0..1.
_MEAN, _DEVIATION = 0.339, 0.323


def path(kind: Kind) -> Path:
    """The trained model as ONNX: x float32 [N, 1, 32, 32] -> logits [N, 10]. Raises UsageError."""
    if kind not in KINDS:
        raise UsageError(f"There is no digits model {kind!r}.", f"Choose one of {', '.join(KINDS)}.")
    return Path(__file__).parent / f"digits_{kind}.onnx"


def calibration() -> list[Sample]:
    """Samples of the training part, for `--calib lwc.models.digits:calibration`."""
    return samples("calibration")


def unseen() -> list[Sample]:
    """Samples the models were not trained on, for honest accuracy: half calibrate, half verify."""
    return samples("test")


def samples(split: Split = "test") -> list[Sample]:
    """One dictionary per image: "x" float32 [1, 1, 32, 32] and "label" int64 [].

    split: "test" (599 held-out images) or "calibration" (the 1,198 that were trained on)
    """
    images, labels = arrays(split)
    return [{"x": image[None], "label": label} for image, label in zip(images, map(np.asarray, labels), strict=True)]


def arrays(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All images [n, 1, 32, 32] and labels [n] of one split. Raises UsageError, MissingDependency."""
    if split not in ("calibration", "test"):
        raise UsageError(f"There is no split {split!r} of the digits.", "Choose calibration or test.")
    pixels, labels = _load()
    chosen = (np.arange(len(labels)) % _TEST_EVERY == 0) == (split == "test")
    return enlarge(pixels[chosen]), labels[chosen]


def enlarge(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, 8, 8] in 0..1 -> [n, 1, 32, 32], bilinear with aligned corners (y = M x M^T), normalized."""
    small = pixels.shape[-1]
    position = np.linspace(0, small - 1, SIZE)
    matrix = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(small)))
    images: NDArray[np.float64] = (matrix @ pixels @ matrix.T - _MEAN) / _DEVIATION
    return images[:, None].astype(np.float32)


def inverted(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dark on light: pixels p in 0..1 become 1 - p, normalized as before."""
    turned: NDArray[np.float32] = np.float32((1 - 2 * _MEAN) / _DEVIATION) - images
    return turned


@lru_cache(maxsize=1)
def _load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependency(
            "The digits images come with scikit-learn, which is not installed.",
            "Run: pip install 'lwc-compiler[zoo]'",
        ) from error
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target.astype(np.int64)
