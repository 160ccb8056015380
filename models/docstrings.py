"""A small decoder that writes docstrings, and the windows of text to calibrate and score it.

One million weights, one character per token. `train_docstrings` trained it on the docstrings of Python 3.11's
standard library (Python Software Foundation licence); every docstring of a held-out top-level module was kept
from it. docstrings.npz has windows of both parts, so that scores do not depend on the Python that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import UsageError

Split = Literal["calibration", "test"]
Sample = dict[str, NDArray[Any]]

SPLITS: tuple[Split, ...] = ("calibration", "test")
CONTEXT = 128
VOCABULARY = 128  # ASCII; 0 closes each docstring


def path() -> Path:
    """The trained model as ONNX: tokens int64 [N, 128] -> logits of the next token [N, 128, 128]."""
    return Path(__file__).parent / "docstrings.onnx"


def calibration() -> list[Sample]:
    """Windows of the training part, for `--calib lwc.models.docstrings:calibration`."""
    return samples("calibration")


def held_out() -> list[Sample]:
    """Windows of modules that the model was not trained on, for honest accuracy."""
    return samples("test")


def samples(split: Split = "calibration") -> list[Sample]:
    """One dictionary per window: "tokens" int64 [1, 128], and as label "next" int64 [1, 128], one further on.

    split: "calibration" (windows of the training part) or "test" (of held-out modules). Raises UsageError.
    """
    if split not in SPLITS:
        raise UsageError(f"There is no split {split!r} of the docstrings.", f"Choose {' or '.join(SPLITS)}.")
    return [{"tokens": row[None, :-1], "next": row[None, 1:]} for row in _windows()[split].astype(np.int64)]


def text(tokens: NDArray[Any]) -> str:
    """Tokens as text; where a docstring ends, a blank line."""
    return bytes(np.asarray(tokens, dtype=np.uint8).ravel()).decode("ascii").replace("\0", "\n\n")


class metric:
    """Log-likelihood in nats per token, over all tokens seen: the cross-entropy times -1, higher is better.

        sum_t (logits[t, next_t] - log sum_v exp logits[t, v]) / tokens

    A token is a byte, so that bits per byte are -metric / ln 2.
    """

    def __init__(self) -> None:
        self._nats = 0.0
        self._tokens = 0

    def update(self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> None:
        logits, following = outputs["logits"].astype(np.float64), sample["next"]
        top = logits.max(axis=-1)
        partition = top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))
        chosen = np.take_along_axis(logits, following[..., None], axis=-1)[..., 0]
        self._nats += float((chosen - partition).sum())
        self._tokens += following.size

    def compute(self) -> float:
        """Minus infinity where no token was seen or a logit is not a number."""
        value = self._nats / self._tokens if self._tokens else -np.inf
        return float(value) if not np.isnan(value) else -np.inf


@lru_cache(maxsize=1)
def _windows() -> dict[str, NDArray[np.uint8]]:
    with np.load(Path(__file__).parent / "docstrings.npz") as stored:
        return {split: stored[split] for split in SPLITS}
