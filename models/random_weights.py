"""Give an architecture that ships with constant weights random ones, so that its layers are worth compiling.

The drawn parameter depends on its use and, for the generator's seed, on its name alone:

    weight of Conv or Gemm      normal, variance 2 / fan-in (He et al. 2015, eq. 10)
    variance or scale           uniform in 0.8 .. 1.2
    scale that closes a branch  uniform in 0.1 .. 0.3: sums of branches would double the variance each time
    bias or mean                normal, deviation 0.05
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

_FIRST_IR_WITH_FREE_INITIALIZERS = 4  # before, every initializer had to be a graph input as well
_CLOSING_SCALE = ("BatchNormalization before Sum", 1)
_SCALES = {
    ("BatchNormalization", 1),
    ("BatchNormalization", 4),
    ("BatchNormalization before Sum", 4),
    ("Mul", 0),
    ("Mul", 1),
}


def build(architecture: Path) -> onnx.ModelProto:
    """The model of the file with every parameter drawn anew; parameters become initializers.

    A parameter is a float initializer, or the output of a ConstantOfShape whose shape is an initializer, of at
    least one axis. Scope: main graph.
    """
    model = onnx.load(architecture)
    uses = _uses(model.graph)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    drawn = {}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            dims = tuple(int(size) for size in shapes[node.input[0]])
            drawn[node.output[0]] = draw_parameter(node.output[0], dims, uses[node.output[0]])
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.dims and tensor.name in uses:
            drawn[tensor.name] = draw_parameter(tensor.name, tuple(tensor.dims), uses[tensor.name])
    _replace(model.graph, drawn)
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_INITIALIZERS)
    return model


def _uses(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Tensor -> (operator, input position) of its first use, seen through Unsqueeze."""
    uses: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        after = uses.get(node.output[0], ("", 0))
        closes = node.op_type == "BatchNormalization" and after[0] == "Sum"
        operator = f"{node.op_type} before Sum" if closes else node.op_type
        for position, name in reversed(list(enumerate(node.input))):
            uses[name] = after if node.op_type == "Unsqueeze" else (operator, position)
    return uses


def draw_parameter(name: str, dims: tuple[int, ...], use: tuple[str, int]) -> NDArray[np.float32]:
    """One parameter of shape dims; use: (operator, input position)."""
    rng = np.random.default_rng(crc32(name.encode("utf-8")))
    if use == _CLOSING_SCALE:
        return rng.uniform(0.1, 0.3, size=dims).astype(np.float32)
    if use in _SCALES:
        return rng.uniform(0.8, 1.2, size=dims).astype(np.float32)
    deviation = (2.0 / prod(dims[1:])) ** 0.5 if len(dims) > 1 else 0.05
    return rng.standard_normal(dims, dtype=np.float32) * np.float32(deviation)


def _replace(graph: onnx.GraphProto, drawn: dict[str, NDArray[np.float32]]) -> None:
    nodes = [node for node in graph.node if node.output[0] not in drawn]
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read and tensor.name not in drawn]
    inputs = [value for value in graph.input if value.name in {*read} - {t.name for t in graph.initializer}]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in drawn.items())
