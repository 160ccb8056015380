"""onnxruntime's own quantizers as peers: static (minmax, percentile, entropy) and dynamic int8, set up for CPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile,
           "entropy": CalibrationMethod.Entropy}  # fmt: skip
Sample = dict[str, np.ndarray]

logging.getLogger().setLevel(logging.ERROR)


class Reader(CalibrationDataReader):
    """Feeds samples without their labels."""

    def __init__(self, samples: Sequence[Sample], inputs: Sequence[str]) -> None:
        self._feeds: Iterator[Sample] = iter([{name: s[name] for name in inputs} for s in samples])

    def get_next(self) -> Any:
        return next(self._feeds, None)


def session(path: Path, threads: int = 2) -> ort.InferenceSession:
    """A session with all optimizations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def preprocess(path: Path, folder: Path) -> Path:
    """Opset 13 or newer, then onnxruntime's own preparation; only the former where the latter fails."""
    raised = raise_opset(path, folder)
    prepared = folder / "prepared.onnx"
    try:
        quant_pre_process(str(raised), str(prepared), skip_symbolic_shape=True)
    except Exception:
        return raised
    return prepared


def raise_opset(path: Path, folder: Path) -> Path:
    """The model at opset 13 or newer."""
    model = onnx.load(path)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    raised = folder / "raised.onnx"
    if opset < 13:
        model = onnx.version_converter.convert_version(model, 13)
    onnx.save(model, raised)
    return raised


def static(path: Path, out: Path, samples: Sequence[Sample], method: str) -> Path:
    """QDQ, weights int8, activations uint8, ranges by `method`; per channel on the prepared model.

    Where that raises, or onnxruntime cannot load what came out: per tensor, then without its preparation.
    """
    failures = []
    for prepare in (preprocess, raise_opset):
        for per_channel in (True, False):
            try:
                prepared = prepare(path, out.parent)
                inputs = [i.name for i in session(prepared).get_inputs()]
                quantize_static(
                    str(prepared), str(out), Reader(samples, inputs),
                    quant_format=QuantFormat.QDQ, per_channel=per_channel, calibrate_method=METHODS[method],
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                )  # fmt: skip
                session(out)
            except Exception as error:
                failures.append(error)
            else:
                return out
    raise failures[0]


def dynamic(path: Path, out: Path) -> Path:
    """Weights int8, activations quantized at run time."""
    quantize_dynamic(str(preprocess(path, out.parent)), str(out), per_channel=True, weight_type=QuantType.QInt8)
    return out
