"""Layers with masked weights beside the same with dense ones: which runtimes skip the zeros.

    python tests/benchmarks/sparse_patterns.py [--runtimes onnxruntime,openvino,openvino-sparse,openvino-int8,tvm]
                                               [--layers product,row,conv3x3,conv1x1] [--threads 2] [--seconds 0.6]

Columns: milliseconds with dense weights, then the ratio to that with each pattern, in alternating blocks of one run.
Weights are drawn, and masked by magnitude. Layers: a product of 128 x 1024 and of 1 x 1024 with 1024 x 1024; a 3x3
convolution of 64 channels at 56 x 56; a 1x1 convolution of 256 channels at 14 x 14.

openvino-sparse, openvino-int8-sparse: with CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE, of which OpenVINO says that it packs
weights with at least that share of zeros where the processor has AMX; the ratios are to the dense weight without it.
openvino-int8...: the weight in int8 per output, the input in uint8, as a product with QuantizeLinear and
DequantizeLinear; convolutions are left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from rounds import times

RUNTIMES = ("onnxruntime", "openvino", "openvino-sparse", "openvino-int8", "openvino-int8-sparse", "tvm")
PATTERNS = (("2:4", 0.5), ("block:4x1", 0.5), ("block:16x1", 0.5), ("block:4x1", 0.1), ("block:16x1", 0.1))
THRESHOLD = 0.4
LAYERS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {  # shape of the input, of the weight
    "product": ((128, 1024), (1024, 1024)),
    "row": ((1, 1024), (1024, 1024)),
    "conv3x3": ((1, 64, 56, 56), (64, 64, 3, 3)),
    "conv1x1": ((1, 256, 14, 14), (256, 256, 1, 1)),
}


def drawn(layer: str) -> np.ndarray:
    shape = LAYERS[layer][1]
    weight = np.random.default_rng(0).normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    return weight.astype(np.float32)


def with_zeros(layer: str, pattern: str, density: float) -> np.ndarray:
    """The weight as the pass masks it, without statistics."""
    import onnx_ir as ir

    from lwc.compiler.core.pass_ import PassContext
    from lwc.compiler.core.plan import Masked, Plan, Site
    from lwc.compiler.core.target import host
    from lwc.passes.sparsity.mask_weights import MaskWeights

    model = ir.from_proto(float_model(layer, drawn(layer)))
    plan = Plan({Site("y", "?", "mask"): Masked(pattern, "magnitude", density)})
    assert MaskWeights().run(model, PassContext(host(), plan)).changed
    (value,) = model.graph.initializers.values()
    assert value.const_value is not None
    return value.const_value.numpy()


def float_model(layer: str, weight: np.ndarray) -> onnx.ModelProto:
    op, attributes = ("MatMul", {}) if weight.ndim == 2 else ("Conv", {"pads": [weight.shape[2] // 2] * 4})
    node = helper.make_node(op, ["x", "w"], ["y"], "y", **attributes)
    return whole(layer, [node], [numpy_helper.from_array(weight, "w")])


def int8_model(layer: str, weight: np.ndarray) -> onnx.ModelProto:
    scale = np.abs(weight).max(axis=0) / 127
    codes = np.rint(weight / scale).astype(np.int8)
    constants = {
        "w": codes, "ws": scale.astype(np.float32), "wz": np.zeros(len(scale), np.int8),
        "s": np.float32(4 / 127), "z": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=1),
        helper.make_node("MatMul", ["d", "dw"], ["y"]),
    ]
    return whole(layer, nodes, [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])


def whole(layer: str, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
    shape = LAYERS[layer][0]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph(list(nodes), layer, [x], [y], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class OnnxRuntime:
    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, feeds: Mapping[str, np.ndarray]) -> Any:
        return self._session.run(None, dict(feeds))


class OpenVino:
    def __init__(self, model: onnx.ModelProto, threads: int, sparse: bool) -> None:
        import openvino

        core = openvino.Core()
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        if sparse:
            options["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = THRESHOLD
        compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", options)
        self._request = compiled.create_infer_request()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Any:
        return self._request.infer(dict(feeds), share_inputs=True)


def tvm(model: onnx.ModelProto, threads: int) -> Callable[[], Any]:
    """What opens sessions of the compiled model."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.compiled import machine_for
    from lwc.backends.tvm.importer import import_model
    from lwc.backends.tvm.pipeline import compile_module
    from lwc.backends.tvm.session import TvmSession
    from lwc.compiler.core.model import Model
    from lwc.compiler.core.target import host

    opened = Model.from_proto(model)
    signature = Signature.of(opened)
    made = compile_module(import_model(opened), machine_for(opened, host().with_threads(threads)))
    return partial(TvmSession, made, signature.inputs, signature.outputs, opened.name)


def opener(runtime: str, layer: str, weight: np.ndarray, threads: int, dense: bool) -> Callable[[], Any]:
    model = int8_model(layer, weight) if "int8" in runtime else float_model(layer, weight)
    if runtime == "onnxruntime":
        return partial(OnnxRuntime, model, threads)
    if runtime == "tvm":
        return tvm(model, threads)
    return partial(OpenVino, model, threads, runtime.endswith("sparse") and not dense)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.6)
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    names = [f"{pattern} {density:.0%}" for pattern, density in PATTERNS]
    print(f"| runtime | layer | dense ms | {' | '.join(names)} |")
    print("|" + "---|" * (3 + len(names)))
    for layer in args.layers.split(","):
        weights = [drawn(layer), *(with_zeros(layer, *pattern) for pattern in PATTERNS)]
        feeds = {"x": np.random.default_rng(1).normal(size=LAYERS[layer][0]).astype(np.float32)}
        for runtime in args.runtimes.split(","):
            if "int8" in runtime and weights[0].ndim != 2:
                continue
            opens = [opener(runtime, layer, weight, args.threads, not k) for k, weight in enumerate(weights)]
            dense, *masked = times(opens, feeds, args.seconds, 1)
            cells = [runtime, layer, f"{dense:.3f}", *(f"{ms / dense:.2f}" for ms in masked)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
