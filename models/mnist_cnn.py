"""The small digit reader as ONNX: three times convolution, ReLU, 2x2 pooling; then two fully connected layers.

    x [N, 1, 28, 28] -> 32 x 14 x 14 -> 64 x 7 x 7 -> 128 x 3 x 3 -> 256 -> logits [N, 10]

Pixels are normalised by mean 0.1307 and deviation 0.3081 before they come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lwc.compiler.core.errors import BadInput
from lwc.models.checkpoints import read_checkpoint

_CONVOLUTIONS = ("conv_layers.0", "conv_layers.3", "conv_layers.6")
_DENSE = ("fc_layers.0", "fc_layers.2")


def build(checkpoint: Path) -> onnx.ModelProto:
    """The network with the weights of its PyTorch checkpoint; raises BadInput if weights are missing."""
    return mnist_cnn(read_checkpoint(checkpoint))


def mnist_cnn(weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """weights: LAYER.weight and LAYER.bias of the five layers, in PyTorch's layout."""
    names = [f"{layer}.{part}" for layer in (*_CONVOLUTIONS, *_DENSE) for part in ("weight", "bias")]
    missing = [name for name in names if name not in weights]
    if missing:
        raise BadInput(f"The digit reader's checkpoint lacks {', '.join(missing)}.")
    nodes: list[onnx.NodeProto] = []
    flowing = "x"
    for layer in _CONVOLUTIONS:
        nodes += _convolution_block(layer, flowing)
        flowing = nodes[-1].output[0]
    first, second = _DENSE
    nodes += [
        helper.make_node("Flatten", [flowing], ["flat"], "flat"),
        _dense(first, "flat", "hidden"),
        helper.make_node("Relu", ["hidden"], ["hidden.relu"], "hidden.relu"),
        _dense(second, "hidden.relu", "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "mnist_cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(weights[name], name) for name in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _convolution_block(layer: str, x: str) -> list[onnx.NodeProto]:
    conv, relu, pool = f"{layer}.conv", f"{layer}.relu", f"{layer}.pool"
    parameters = [f"{layer}.weight", f"{layer}.bias"]
    return [
        helper.make_node("Conv", [x, *parameters], [conv], conv, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [conv], [relu], relu),
        helper.make_node("MaxPool", [relu], [pool], pool, kernel_shape=[2, 2], strides=[2, 2]),
    ]


def _dense(layer: str, x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Gemm", [x, f"{layer}.weight", f"{layer}.bias"], [y], layer, transB=1)
