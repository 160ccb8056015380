"""Which weights of a graph learn, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.model import Model

# Operator -> (positions of weights, positions of scales and biases).
_PARTS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "Add": ((), (0, 1)),
    "BatchNormalization": ((), (1, 2)),
    "BiasGelu": ((), (1,)),
    "Conv": ((1,), (2,)),
    "ConvTranspose": ((1,), (2,)),
    "Einsum": ((0, 1), ()),
    "FastGelu": ((), (1,)),
    "FusedMatMul": ((0, 1), ()),
    "GRU": ((1, 2), (3,)),
    "Gather": ((0,), ()),
    "Gemm": ((0, 1), (2,)),
    "GroupNormalization": ((), (1, 2)),
    "InstanceNormalization": ((), (1, 2)),
    "LSTM": ((1, 2), (3,)),
    "LayerNormalization": ((), (1, 2)),
    "MatMul": ((0, 1), ()),
    "Mul": ((), (0, 1)),
    "PRelu": ((), (1,)),
    "RMSNormalization": ((), (1,)),
    "RNN": ((1, 2), (3,)),
    "SimplifiedLayerNormalization": ((), (1,)),
    "SkipLayerNormalization": ((), (2, 3, 4)),
    "Sub": ((), (0, 1)),
    "Transpose": ((0,), ()),
}
# Behind these a weight is a table of rows, and low ranks would spread over rows that were never looked up.
_TABLES = frozenset({"Gather"})
_LARGEST = 1e4  # numbers beyond it are those of masks


@dataclass(frozen=True)
class Role:
    """How a weight learns.

    whole: every number, else a scale for each output and an update of low rank
    axis: of the outputs, for those that do not learn as a whole
    """

    whole: bool
    axis: int = 0


def find_roles(model: Model, everything: bool) -> dict[str, Role]:
    """Name of each initializer that learns -> its role.

    Scales and biases (at most one axis longer than 1) learn as a whole. Weights of products learn at low rank, or with
    `everything` as a whole, embedding tables then as well. What only shapes the computation stays: lone numbers, masks,
    integers, statistics, what callers may override, and what subgraphs read.
    """
    found: dict[str, Role] = {}
    for name, value in model.graph.initializers.items():
        role = _role(value, everything)
        if role is not None:
            found[name] = role
    return found


def _role(value: ir.Value, everything: bool) -> Role | None:
    tensor = value.const_value
    uses = [(use.node, use.idx) for use in value.uses()]
    own = all(node.graph is value.graph for node, _ in uses)
    if tensor is None or value.is_graph_input() or not own or not tensor.dtype.is_floating_point() or tensor.size < 2:
        return None
    if float(np.abs(tensor.numpy().astype(np.float32)).max()) > _LARGEST:
        return None
    kinds = set(_kinds(uses))
    if "other" in kinds or not kinds:
        return None
    if "weight" not in kinds:
        longer = sum(size > 1 for size in tensor.shape.numpy())
        return Role(whole=True) if longer <= 1 or everything else None
    if everything:
        return Role(whole=True)
    tables_alone = all(node.op_type in _TABLES for node, _ in uses)
    return None if tables_alone or len(tensor.shape) < 2 else Role(whole=False, axis=_output_axis(uses, tensor))


def _kinds(uses: list[tuple[ir.Node, int]]) -> Iterator[str]:
    for node, index in uses:
        weights, vectors = _PARTS.get(node.op_type, ((), ()))
        yield "weight" if index in weights else "vector" if index in vectors else "other"


def _output_axis(uses: list[tuple[ir.Node, int]], tensor: ir.TensorProtocol) -> int:
    node, index = uses[0]
    rank = len(tensor.shape)
    if node.op_type == "Gemm":
        turned = bool(node.attributes.get_int("transB" if index == 1 else "transA", 0))
        return int(turned == (index == 0))
    if node.op_type in ("LSTM", "GRU", "RNN", "ConvTranspose"):
        return 1
    if node.op_type in ("MatMul", "FusedMatMul", "Einsum"):
        return rank - 1 if index == 1 else rank - 2
    return 0
