"""AMD Quark's int8, plain and with AdaRound, on ONNX Runtime in an environment of its own; started by run.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from exchange import Run, Variant, work
from quark.onnx import A8W8_ADAROUND_QCONFIG, A8W8_QCONFIG, ModelQuantizer, QConfig

Samples = list[dict[str, np.ndarray]]


class Reader:
    """Feeds samples to Quark, from the beginning each time it asks."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.rewind()

    def get_next(self) -> Any:
        return next(self._feeds, None)

    def rewind(self) -> None:
        self._feeds = iter(self._samples)

    reset_iter = rewind

    def __len__(self) -> int:
        return len(self._samples)


def as_it_is(model: Path, calibration: Samples, folder: Path) -> Path:
    return model


def by(config: QConfig, label: str) -> Callable[[Path, Samples, Path], Path]:
    def build(model: Path, calibration: Samples, folder: Path) -> Path:
        names = {port.name for port in session(model, 1).get_inputs()}
        feeds = [{name: array for name, array in sample.items() if name in names} for sample in calibration]
        out = folder / f"{label}.onnx"
        ModelQuantizer(config).quantize_model(str(model), str(out), Reader(feeds))
        return out

    return build


def session(file: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def opened(file: Path, samples: Samples, threads: int) -> Run:
    ready = session(file, threads)
    inputs, outputs = ([port.name for port in ports] for ports in (ready.get_inputs(), ready.get_outputs()))
    return partial(_run, ready, inputs, outputs)


def _run(ready: Any, inputs: list[str], outputs: list[str], sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(outputs, ready.run(None, {name: sample[name] for name in inputs}), strict=True))


if __name__ == "__main__":
    work(
        [
            Variant("onnxruntime-fp32", as_it_is, opened),
            Variant("quark-a8w8", by(A8W8_QCONFIG, "a8w8"), opened),
            Variant("quark-a8w8-adaround", by(A8W8_ADAROUND_QCONFIG, "adaround"), opened),
        ]
    )
