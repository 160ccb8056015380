"""Constants that are worth storing in fewer bits, and how each is a matrix [out, in] whose rows share scales.

MatMul x W        W [.., in, out]               MatMul W x        W [.., out, in]
Gemm              W [in, out], or [out, in] when transB
Conv              W [out, in / groups, kernel]                    in = channels of the group * kernel
ConvTranspose     W [in, out / groups, kernel]                    out = group * channels * kernel, as rows.py sees it
LSTM, GRU, RNN    W, R [directions, gates * hidden, in]
Gather            table [entries, ...], axis 0                    an entry is a row
others            constants of LARGE values in several rows       rows are the last axes

Scope: nodes that read float32 initializers which no caller can override. An If, Loop or Scan of the main graph
stands for all that the nodes within it read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.units import is_constant

LARGE = 4096  # values; below it a constant of an operator without a weight matrix is left alone
NARROW = 32  # columns; of such constants, rows join axes until they have as many
RECURRENT_OPS = frozenset({"LSTM", "GRU", "RNN"})
_READS_FORMATS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


@dataclass(frozen=True)
class WeightView:
    """How one constant input of a node is a matrix.

    index: its position among the inputs;  shape: the constant, axes joined;  axis: of `shape`, runs over inputs
    sees_activation: its columns multiply the activation that LayerStats.gram is of
    inner: it is read in a subgraph
    """

    index: int
    shape: tuple[int, ...]
    axis: int
    sees_activation: bool = False
    inner: bool = False

    @property
    def columns(self) -> int:
        return self.shape[self.axis]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[: self.axis]) * math.prod(self.shape[self.axis + 1 :])

    def matrix(self, array: NDArray[Any]) -> NDArray[Any]:
        """[out, in] of the constant."""
        return np.moveaxis(array.reshape(self.shape), self.axis, -1).reshape(self.rows, self.columns)

    def back(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """[out, any] laid out as `shape`, with `any` in place of the inputs."""
        others = (*self.shape[: self.axis], *self.shape[self.axis + 1 :])
        moved = np.moveaxis(matrix.reshape(*others, matrix.shape[1]), -1, self.axis)
        return np.ascontiguousarray(moved)


def weight_views(node: ir.Node) -> tuple[WeightView, ...]:
    """The matrices among a node's inputs; none for operators of other domains and for nodes of constants alone."""
    if node.domain != "" or node.op_type in _READS_FORMATS:
        return ()
    shapes = {k: shape for k, value in enumerate(node.inputs) if (shape := _float_shape(value)) is not None}
    if all(value is None or is_constant(value) for value in node.inputs):
        return ()
    found = [_view(node, k, shape) for k, shape in shapes.items()]
    return tuple(view for view in found if view is not None)


def weights_at(node: ir.Node) -> tuple[tuple[ir.Node, WeightView], ...]:
    """The matrices that a node reads, and those of the nodes in its subgraphs, each with its reader."""
    graphs = (attribute.value for attribute in node.attributes.values() if not attribute.is_ref())
    readers = [reader for graph in graphs if isinstance(graph, ir.Graph) for reader in graph.all_nodes()]
    inner = (
        (reader, replace(view, sees_activation=False, inner=True))
        for reader in readers
        for view in weight_views(reader)
    )
    return (*((node, view) for view in weight_views(node)), *inner)


def _view(node: ir.Node, index: int, shape: tuple[int, ...]) -> WeightView | None:
    op = node.op_type
    if op in ("MatMul", "Gemm"):
        return _product(node, index, shape) if len(shape) >= 2 and index < 2 else None
    if op == "Conv":
        return WeightView(1, (shape[0], math.prod(shape[1:])), 1, sees_activation=True) if index == 1 else None
    if op == "ConvTranspose":
        groups = node.attributes.get_int("group", 1)
        whole = (groups, shape[0] // groups, math.prod(shape[1:]))
        return WeightView(1, whole, 1, sees_activation=True) if index == 1 else None
    if op in RECURRENT_OPS:
        rows = math.prod(shape[:-1])
        return WeightView(index, (rows, shape[-1]), 1, sees_activation=index == 1) if index in (1, 2) else None
    if op == "Gather" and index == 0 and node.attributes.get_int("axis", 0) == 0 and len(shape) >= 2:
        return WeightView(0, (shape[0], math.prod(shape[1:])), 1)
    return _large(index, shape)


def _large(index: int, shape: tuple[int, ...]) -> WeightView | None:
    """Rows of the last axes, as few as make a row worth a scale."""
    axes = next((k for k in range(1, len(shape)) if math.prod(shape[-k:]) >= NARROW), len(shape))
    rows, columns = math.prod(shape[:-axes]), math.prod(shape[-axes:])
    return WeightView(index, (rows, columns), 1) if rows > 1 and rows * columns >= LARGE else None


def _product(node: ir.Node, index: int, shape: tuple[int, ...]) -> WeightView:
    transposed = node.attributes.get_int("transB" if index else "transA", 0) == 1
    stack = int(math.prod(shape[:-2]))
    sees = len(shape) == 2 and (index == 1 or node.op_type == "MatMul")
    if (index == 0) != transposed:
        return WeightView(index, (stack * shape[-2], shape[-1]), 1, sees)
    if stack == 1:
        return WeightView(index, (shape[-2], shape[-1]), 0, sees)
    return WeightView(index, (stack, shape[-2], shape[-1]), 1)


def _float_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a float32 constant that holds something and has axes."""
    if value is None or not is_constant(value) or value.const_value is None:
        return None
    tensor = value.const_value
    shape = tuple(int(size) for size in tensor.shape.numpy())
    return shape if tensor.dtype == ir.DataType.FLOAT and shape and min(shape) > 0 else None
