"""Sessions of OpenVINO behind lwc's Session protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import openvino as ov

from lwc.backends.openvino.compiled import Executable, Executables, core
from lwc.backends.openvino.errors import convert
from lwc.backends.openvino.workarounds import made_readable
from lwc.backends.serving import fitting, handed_over
from lwc.backends.signature import Signature
from lwc.compiler.core.backend import Array, Feeds, Port
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import BFloat16, Float16
from lwc.compiler.core.target import Target

PRECISIONS = {BFloat16.name: "bf16", Float16.name: "f16"}

# Types that numpy has no name for, which OpenVINO takes and gives as bits.
_FOREIGN: dict[Any, tuple[Any, Any]] = {
    np.dtype(ml_dtypes.bfloat16): (ov.Type.bf16, np.uint16),
    np.dtype(ml_dtypes.float8_e4m3fn): (ov.Type.f8e4m3, np.uint8),
    np.dtype(ml_dtypes.float8_e5m2): (ov.Type.f8e5m2, np.uint8),
}


def settings(target: Target, float_format: str, *, profile: bool = False) -> Mapping[str, Any]:
    """Options for compiling: one stream with the target's threads, float32 unless the model asks for less.

    float_format: name of a choice, as core.float_format gives it. Left alone, OpenVINO computes in bfloat16 wherever
    the CPU can, and rounds activations to int8 in groups of 32 in front of compressed weights.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": target.threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS.get(float_format, "f32"),
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERF_COUNT": profile,
    }


def read(model: Model) -> ov.Model:
    """OpenVINO's graph of an ONNX model, its inputs under ONNX's names. Raises UnsupportedOperator, BadInput."""
    with handed_over(made_readable(model)) as source:
        try:
            graph = core().read_model(source, config={"ENABLE_MMAP": False})  # a file goes when the block ends
        except Exception as error:
            raise convert(error, model.name) from error
    _restore_names(graph, model)
    return graph


def _restore_names(graph: ov.Model, model: Model) -> None:
    """An input that goes straight into a node without work (Dropout) comes under the name of that node's result."""
    names = [v.name for v in model.graph.inputs if not v.is_initializer() and (v.uses() or v.is_graph_output())]
    kept = {name for port in graph.inputs for name in port.get_names()}
    lost = [name for name in names if name not in kept]
    for port in graph.inputs:
        if not port.get_names() & set(names):
            port.add_names({lost.pop(0)})


class OpenVinoSession:
    """A model that OpenVINO has compiled.

    ready: see Executables;  last: what ran last, for its counters
    """

    def __init__(
        self, graph: ov.Model, options: Mapping[str, Any], signature: Signature, name: str, *, ready: bool = True
    ) -> None:
        self._name = name
        self.inputs: Sequence[Port] = signature.inputs
        self.outputs: Sequence[Port] = signature.outputs
        self._frozen = signature.frozen
        ports = {port.name: port for port in signature.inputs}
        self._read = [next(ports[name] for name in given.get_names() if name in ports) for given in graph.inputs]
        try:
            self._executables = Executables(graph, options, ready=ready)
        except Exception as error:
            raise convert(error, name) from error
        self.last: Executable | None = self._executables.general

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Arrays that are no inputs (labels) are ignored.

        Raises BadCalibration when an input is missing or has another type, rank or fixed dimension, or when one is
        given that OpenVINO has compiled in.
        """
        taken = {port.name: fitting(port, feeds, self._name) for port in self.inputs}
        for name in self._frozen & feeds.keys():
            raise BadCalibration(f"{self._name}: OpenVINO cannot replace the default of input '{name}'.")
        arrays = [taken[port.name] for port in self._read]
        try:
            executable = self.last = self._executables.of(tuple([array.shape for array in arrays]))
            request = executable.request
            tensors = [_to_tensor(array) for array in arrays]
            for k, tensor in enumerate(tensors):
                request.set_input_tensor(k, tensor)
            request.infer(share_outputs=True)
            return {port.name: _from_tensor(request.get_output_tensor(k), port) for k, port in enumerate(self.outputs)}
        except Exception as error:
            raise convert(error, self._name) from error


def _to_tensor(array: Any) -> ov.Tensor:
    foreign = _FOREIGN.get(array.dtype)
    if foreign is not None:
        dtype, bits = foreign
        return ov.Tensor(_contiguous(array).view(bits), array.shape, dtype)
    if array.dtype.kind in "OU":
        return ov.Tensor(array.astype(np.str_))
    return ov.Tensor(_contiguous(array), shared_memory=True)


def _contiguous(array: Any) -> Any:
    """np.ascontiguousarray makes vectors of scalars."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _from_tensor(tensor: ov.Tensor, port: Port) -> Any:
    """A copy: the request writes its next results into the same memory."""
    if tensor.get_element_type() == ov.Type.string:
        return tensor.str_data.astype(np.object_)
    if port.dtype in _FOREIGN:
        return tensor.data.copy().view(port.dtype)
    return tensor.data.astype(port.dtype)
