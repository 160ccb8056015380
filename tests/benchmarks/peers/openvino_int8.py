"""OpenVINO as a peer: the float model in fp32 and bf16, and NNCF's post-training int8 of it. CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import openvino as ov

Sample = Mapping[str, np.ndarray]
Run = Callable[[Sample], dict[str, np.ndarray]]


def nncf_int8(path: Path, out: Path, samples: Sequence[Sample]) -> Path:
    """NNCF's post-training quantization with its defaults, on OpenVINO's graph; writes the IR `out` (.xml).

    model_type is "transformer" where a Softmax feeds a MatMul, as NNCF's documentation asks.
    """
    import nncf

    nncf.set_log_level("ERROR")
    model = ov.Core().read_model(path)
    kept = [feed_of(model, path, sample) for sample in samples]
    quantized = nncf.quantize(
        model, nncf.Dataset(kept), subset_size=len(kept),
        model_type=nncf.ModelType.TRANSFORMER if attends(path) else None,
    )  # fmt: skip
    ov.save_model(quantized, out, compress_to_fp16=False)
    return out


def attends(path: Path) -> bool:
    """Does a Softmax feed a MatMul in the main graph?"""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {name for node in graph.node if node.op_type == "Softmax" for name in node.output}
    return any(node.op_type == "MatMul" and weights & set(node.input) for node in graph.node)


def open_run(path: Path, onnx_path: Path, samples: Sequence[Sample], precision: str, threads: int = 2) -> Run:
    """Compile an ONNX model or an IR; shapes are fixed where all samples have the same.

    onnx_path: the model before quantization, whose input and output names the run uses
    precision: OpenVINO's hint, "f32" or "bf16"
    """
    core = ov.Core()
    model = core.read_model(path)
    names = input_names(model, onnx_path)
    shapes = [{tuple(sample[name].shape) for sample in samples} for name in names]
    if all(len(found) == 1 for found in shapes):
        model.reshape({k: found.pop() for k, found in enumerate(shapes)})
    hints = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }  # fmt: skip
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    outputs = [output.name for output in onnx.load(onnx_path, load_external_data=False).graph.output]

    def run(sample: Sample) -> dict[str, np.ndarray]:
        results = request.infer([sample[name] for name in names], share_inputs=True)
        return {name: results[k] for k, name in enumerate(outputs)}

    return run


def input_names(model: ov.Model, onnx_path: Path) -> list[str]:
    """ONNX's name of each of the graph's inputs; OpenVINO renames one that goes into a node without work."""
    graph = onnx.load(onnx_path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    wanted = [value.name for value in graph.input if value.name not in weights]
    found = [next((name for name in wanted if name in port.get_names()), "") for port in model.inputs]
    lost = [name for name in wanted if name not in found]
    return [name or lost.pop(0) for name in found]


def feed_of(model: ov.Model, onnx_path: Path, sample: Sample) -> list[np.ndarray]:
    """Arrays in the order of the graph's inputs, labels left out."""
    return [sample[name] for name in input_names(model, onnx_path)]
