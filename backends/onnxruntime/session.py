"""Sessions of ONNX Runtime behind lwc's Session protocol."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort

from lwc.backends.onnxruntime.errors import convert
from lwc.backends.serving import fitting
from lwc.compiler.core.backend import Array, Feeds, Port
from lwc.compiler.core.target import Target

_TENSOR = re.compile(r"tensor\((\w+)\)")

_DTYPES: dict[str, Any] = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "string": np.object_, "bool": np.bool_,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
    "bfloat16": ml_dtypes.bfloat16, "float8e4m3fn": ml_dtypes.float8_e4m3fn, "float8e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip

# Types ONNX Runtime's Python binding cannot pass as arrays: their ONNX number, and bits as an integer type.
_FOREIGN: dict[Any, tuple[int, Any]] = {
    np.dtype(ml_dtypes.bfloat16): (16, np.uint16),
    np.dtype(ml_dtypes.float8_e4m3fn): (17, np.uint8),
    np.dtype(ml_dtypes.float8_e5m2): (19, np.uint8),
}

_FATAL_ONLY = 4  # failures come as exceptions; ONNX Runtime would write them to stderr as well
_SLEEP_BETWEEN_RUNS = "session.force_spinning_stop"


def session_options(target: Target, *, in_turns: bool = False) -> ort.SessionOptions:
    """All optimizations, the target's threads, nothing written to stderr.

    in_turns: with another runtime: threads that wait for the next run, some milliseconds, would slow that one's down
    """
    options = ort.SessionOptions()
    if in_turns:
        options.add_session_config_entry(_SLEEP_BETWEEN_RUNS, "1")
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def create(model: bytes | str, options: ort.SessionOptions, name: str) -> ort.InferenceSession:
    """A session of ONNX Runtime's own from bytes or a path; its exceptions become ours."""
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise convert(error, name) from error


class OrtSession:
    """A model that ONNX Runtime has loaded."""

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session = session
        self._name = name
        self.inputs: Sequence[Port] = tuple(_port(arg) for arg in session.get_inputs())
        self.outputs: Sequence[Port] = tuple(_port(arg) for arg in session.get_outputs())
        self._overridable: Sequence[Port] = tuple(_port(arg) for arg in session.get_overridable_initializers())
        self._names = [port.name for port in self.outputs]
        self._plain = not any(port.dtype in _FOREIGN for port in (*self.inputs, *self.outputs))
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Arrays that are no inputs (labels) are ignored.

        Raises BadCalibration when an input is missing or has another type, rank or fixed dimension.
        """
        taken = {port.name: fitting(port, feeds, self._name) for port in self.inputs}
        taken |= {p.name: fitting(p, feeds, self._name) for p in self._overridable if p.name in feeds}
        try:
            if self._plain:
                results = self._session.run(self._names, taken, self._run_options)
            else:
                values = {name: _to_ort_value(array) for name, array in taken.items()}
                found = self._session.run_with_ort_values(self._names, values, self._run_options)
                results = [_from_ort_value(v, p) for v, p in zip(found, self.outputs, strict=True)]
        except Exception as error:
            raise convert(error, self._name) from error
        return dict(zip(self._names, results, strict=True))

    def end_profiling(self) -> str:
        """Stop ONNX Runtime's profiler; the path of its JSON file."""
        return str(self._session.end_profiling())


def _port(arg: ort.NodeArg) -> Port:
    found = _TENSOR.fullmatch(arg.type)
    dtype = np.dtype(_DTYPES.get(found[1], np.object_) if found else np.object_)
    shape = tuple(dim if isinstance(dim, int) else str(dim or "?") for dim in arg.shape or ())
    return Port(arg.name, dtype, shape)


def _to_ort_value(array: Any) -> ort.OrtValue:
    foreign = _FOREIGN.get(getattr(array, "dtype", None))
    if foreign is None:
        return ort.OrtValue.ortvalue_from_numpy(array)
    number, bits = foreign
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array).view(bits), number)


def _from_ort_value(value: ort.OrtValue, port: Port) -> Any:
    """numpy() refuses the foreign types (1.31): copy their bytes out of the tensor's memory."""
    if port.dtype not in _FOREIGN:
        return value.numpy()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, dtype=port.dtype).reshape(value.shape())
