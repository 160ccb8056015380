"""AMD Quark's int8 on ONNX Runtime, in an environment of its own; started by run.py.

A8W8 is Quark's preset. u8s8 has what ONNX Runtime is fast at on x86: unsigned activations, weights per channel; the
rest as in the preset. AdaRound takes minutes per model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from exchange import Run, Variant, work
from ort import raise_opset, session
from quark.onnx import A8W8_QCONFIG, AdaRoundConfig, ModelQuantizer, QConfig
from quark.onnx.quantization.config.spec import Int8Spec, QLayerConfig, QuantGranularity, UInt8Spec

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


def u8s8(*algorithms: AdaRoundConfig) -> QConfig:
    """Activations uint8, weights int8 per channel."""
    layer = QLayerConfig(activation=UInt8Spec(), weight=Int8Spec(quant_granularity=QuantGranularity.Channel))
    return QConfig(global_config=layer, algo_config=list(algorithms), extra_options=dict(A8W8_QCONFIG.extra_options))


def as_it_is(model: Path, calibration: Samples, folder: Path) -> Path:
    return model


def by(config: QConfig, label: str) -> Callable[[Path, Samples, Path], Path]:
    def build(model: Path, calibration: Samples, folder: Path) -> Path:
        names = {port.name for port in session(model, 1).get_inputs()}
        feeds = [{name: array for name, array in sample.items() if name in names} for sample in calibration]
        out = folder / f"{label}.onnx"
        ModelQuantizer(config).quantize_model(str(raise_opset(model, folder)), str(out), Reader(feeds))
        return out

    return build


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
            Variant("quark-u8s8", by(u8s8(), "u8s8"), opened),
            Variant(
                "quark-u8s8-adaround",
                by(u8s8(AdaRoundConfig(learning_rate=0.1, num_iterations=1000)), "adaround"),
                opened,
            ),
        ]
    )
