"""onnxsim's structured pruning as a peer: a share of the channels of every chain that it recognizes leaves.

Its Python functions, which cut more chains than their C++ ports (0.8.1). The model is simplified first, as its
documentation asks (batch norms folded), and constants become initializers, without which it sees no weights of
models exported from Paddle. Its command line has no pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxsim
from onnx.helper import get_node_attr_value

Sample = dict[str, np.ndarray]
Pruning = Callable[[onnx.ModelProto, float, Sequence[Sample]], onnx.ModelProto]


def simplified(path: Path) -> onnx.ModelProto:
    """What onnxsim makes of the model before pruning, constants as initializers."""
    model, _ = onnxsim.simplify(onnx.load(path))
    constants = [node for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in constants:
        tensor = get_node_attr_value(node, "value")
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
    return model


def by_weights(
    model: onnx.ModelProto, share: float, calibration: Sequence[Sample], *, norm: str = "l2", pooled: bool = False
) -> onnx.ModelProto:
    """The least weights of each chain, or of all simple chains together (pooled); without samples."""
    return onnxsim.apply_structured_pruning(model, share, importance_norm=norm, global_sparsity=pooled)


def by_activations(
    model: onnx.ModelProto, share: float, calibration: Sequence[Sample], *, pooled: bool = False
) -> onnx.ModelProto:
    """Wanda: weights times the norm of what flows through the channel."""
    return onnxsim.apply_structured_wanda_pruning(model, calibration, sparsity=share, global_sparsity=pooled)


def refitted(model: onnx.ModelProto, share: float, calibration: Sequence[Sample]) -> onnx.ModelProto:
    """by_weights, then its ridge regression, which knows MatMul and Gemm only."""
    return onnxsim.apply_pruning_finetune(model, by_weights(model, share, calibration), calibration)


METHODS: dict[str, Pruning] = {
    "l2": by_weights,
    "l1": partial(by_weights, norm="l1"),
    "l2-pooled": partial(by_weights, pooled=True),
    "wanda": by_activations,
    "wanda-pooled": partial(by_activations, pooled=True),
    "l2-refitted": refitted,
}
