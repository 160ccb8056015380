"""Is somebody speaking? Silero's voice activity detector on speech in noise, ROC-AUC over windows.

A sample is one window with the recurrent state that the float model has reached before it: {"input": [1, 576]
float32 (64 samples before the window, then its 512), "state": [2, 1, 128] float32, "sr": int64 scalar 16000,
"label": [1] int64}. The state comes from running the original model over the track up to there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import MissingDependency
from lwc.models import zoo
from lwc.models.tasks.speech import RATE, WINDOW, Track, random_track, recordings
from lwc.models.tasks.splits import made_item_rng

_CONTEXT = 64
_SECONDS = 12.0
_WINDOWS_PER_TRACK = 16
_CALIBRATION_COUNT = 512


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """Windows that are surely speech or surely not, 16 from each track of 12 seconds, in the order of time."""
    session = _float_session()
    for start in range(0, count, _WINDOWS_PER_TRACK):
        rng = made_item_rng("silero-vad", seed, split, start // _WINDOWS_PER_TRACK)
        track = random_track(rng, recordings(split), _SECONDS)
        sure = rng.permutation(np.flatnonzero(track.labels >= 0))[: min(_WINDOWS_PER_TRACK, count - start)]
        yield from _windows(session, track, frozenset(sure.tolist()))


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.silero_vad:calibration."""
    return samples(_CALIBRATION_COUNT)


class metric:
    """Area under the ROC curve, over all windows seen, of the speech probability."""

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._labels: list[int] = []

    def update(self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> None:
        self._scores.append(float(outputs["output"].reshape(-1)[0]))
        self._labels.append(int(sample["label"][0]))

    def compute(self) -> float:
        return roc_auc(np.array(self._scores), np.array(self._labels))


def roc_auc(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Probability that a window with speech scores above one without, ties counted half (Mann & Whitney 1947).

    0.5 where one kind is missing; a score that is not a number ranks lowest.
    """
    finite = np.nan_to_num(scores, nan=-np.inf)
    speech, none = finite[labels == 1], np.sort(finite[labels == 0])
    if len(speech) == 0 or len(none) == 0:
        return 0.5
    below = np.searchsorted(none, speech, side="left") + np.searchsorted(none, speech, side="right")
    return float(np.mean(below)) / (2.0 * len(none))


def _windows(session: Any, track: Track, wanted: frozenset[int]) -> Iterator[dict[str, NDArray[Any]]]:
    state = np.zeros((2, 1, 128), dtype=np.float32)
    padded = np.pad(track.sound, (_CONTEXT, 0))
    last = max(wanted, default=-1)
    for window in range(last + 1):
        begin = window * WINDOW
        sound = padded[np.newaxis, begin : begin + _CONTEXT + WINDOW]
        inputs: dict[str, NDArray[Any]] = {"input": sound, "state": state, "sr": np.array(RATE, dtype=np.int64)}
        if window in wanted:
            yield {**inputs, "label": track.labels[window : window + 1]}
        (state,) = session.run(["stateN"], inputs)


def _float_session() -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency(
            "The samples of silero-vad need onnxruntime, to compute the state before each window.",
            "pip install 'lwc-compiler[cpu]'",
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(zoo.path("silero-vad"), options, providers=["CPUExecutionProvider"])
