"""A layer whose weight is solved again: its matrices, and what statistics say of the inputs they see.

Conv, Gemm and MatMul with a float32 constant of their own, one matrix [out, in] per group of a convolution. Where the
node has a bias, or a place for one, and the mean of its input is known and goes with its Gram matrix, the bias takes
over the mean of every error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import Array, Names, add_initializer, constant_array, input_of, is_op
from lwc.passes.edit import rank as rank_of
from lwc.passes.solvers.moments import agreeing, patch_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """weight: its constant;  grams: per group of a convolution, E[x x^T], None where not known"""

    node: ir.Node
    weight: ir.Value
    view: WeightView
    stats: LayerStats | None
    grams: tuple[Floats | None, ...]

    @cached_property
    def inputs(self) -> tuple[Floats | None, ...]:
        """Per group E[x], None where it is not known."""
        return input_means(self.node, self.view, self.stats, self.grams)

    @cached_property
    def means(self) -> tuple[Floats | None, ...]:
        """The same, None too where it does not go with the Gram matrix, or the node has no bias to take over."""
        if not _takes_bias(self.node):
            return (None,) * len(self.grams)
        pairs = zip(self.grams, self.inputs, strict=True)
        return tuple(mean if gram is None else agreeing(gram, mean) for gram, mean in pairs)

    @property
    def array(self) -> Array:
        array = constant_array(self.weight)
        assert array is not None
        return array

    def matrices(self) -> list[Array]:
        """[out, in] of each group."""
        return list(np.split(self.view.matrix(self.array), len(self.grams)))

    def moments(self, group: int) -> Floats | None:
        """What errors of a group's weight cost: [in, in]."""
        gram, mean = self.grams[group], self.means[group]
        return gram if gram is None or mean is None else gram - np.outer(mean, mean)

    def shift(self, solved: list[Floats]) -> Floats:
        """What the bias takes over, [out]: (W - W') E[x]."""
        pairs = zip(self.matrices(), solved, self.means, strict=True)
        return np.concatenate([np.zeros(len(w)) if mean is None else (w - s) @ mean for w, s, mean in pairs])


def layer_of(node: ir.Node, stats: LayerStats | None) -> Layer | str:
    """The layer at a node, or why its weight stays as it is."""
    view = next((view for view in weight_views(node) if view.sees_activation), None)
    value = None if view is None else node.inputs[view.index]
    if not is_op(node, "Conv", "Gemm", "MatMul") or view is None or value is None:
        return "it has no weight matrix that is a constant"
    others = sorted(use.node.name or "" for use in value.uses() if use.node is not node)
    if others or value.is_graph_output():
        return f"its weight is shared with '{others[0]}'" if others else "its weight is an output of the model"
    grams = _grams(node, stats)
    if any(gram is not None and gram.shape[-1] != view.columns for gram in grams) or view.rows % len(grams):
        return "its statistics are of another layer"
    return Layer(node, value, view, stats, grams)


def output_axis(node: ir.Node, view: WeightView) -> int:
    """The axis of a layer's output that its weight makes."""
    output = node.outputs[0]
    rank = len(output.shape) if output.shape is not None else 2
    return 1 if is_op(node, "Conv", "Gemm") else rank - (1 if view.index == 1 else 2)


def write_bias(node: ir.Node, shift: Floats, names: Names) -> ir.Value | None:
    """The node's bias with a shift [out] added, a new initializer where that is not zero; None: there is no bias."""
    bias, graph = input_of(node, 2), node.graph
    assert graph is not None
    if not shift.any():
        return bias
    old = constant_array(bias)
    whole = (shift if old is None else old.astype(np.float64) + shift).astype(np.float32)
    wanted = f"{node.name}.bias" if bias is None else f"{bias.name}.shifted"
    return add_initializer(graph, names.claim(wanted), whole)


def drop_unread(*values: ir.Value | None) -> None:
    """Remove initializers that nobody reads any more."""
    for value in values:
        if value is None or value.graph is None or not value.is_initializer():
            continue
        if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
            del value.graph.initializers[value.name or ""]


def _grams(node: ir.Node, stats: LayerStats | None) -> tuple[Floats | None, ...]:
    groups = node.attributes.get_int("group", 1) if is_op(node, "Conv") else 1
    if stats is None or stats.gram is None:
        return (None,) * groups
    return tuple(stats.gram) if stats.gram.ndim == 3 else (stats.gram,)


def input_means(
    node: ir.Node, view: WeightView, stats: LayerStats | None, grams: Sequence[Floats | None]
) -> tuple[Floats | None, ...]:
    """E[x] [in] of what the weight multiplies, per group of a convolution; None where it is not known.

    grams: E[x x^T] per group, which says what share of a convolution's inputs is padding
    """
    nothing = (None,) * len(grams)
    index = 1 - view.index if is_op(node, "MatMul") else 0
    tensor = stats.inputs[index] if stats is not None and index < len(stats.inputs) else None
    if tensor is None or tensor.channel_mean is None or tensor.channel_square is None:
        return nothing
    mean, square = tensor.channel_mean, tensor.channel_square
    if not is_op(node, "Conv"):
        rank = 2 if is_op(node, "Gemm") else rank_of(node.inputs[index]) or 0
        along = rank and tensor.axis is not None and tensor.axis % rank == _summed_axis(node, view, rank)
        return (mean,) if along and len(mean) == view.columns else nothing
    if len(mean) % len(grams) or view.columns % (len(mean) // len(grams)):
        return nothing
    parts = zip(grams, np.split(mean, len(grams)), np.split(square, len(grams)), strict=True)
    return tuple(None if gram is None else patch_mean(gram, m, s) for gram, m, s in parts)


def _summed_axis(node: ir.Node, view: WeightView, rank: int) -> int:
    """The axis of its input that a layer sums over."""
    if is_op(node, "ConvTranspose"):
        return 1
    turned = view.index == 0 if is_op(node, "MatMul") else node.attributes.get_int("transA", 0) == 1
    return rank - (2 if turned else 1)


def _takes_bias(node: ir.Node) -> bool:
    """Whether a constant can be added to the node's outputs without another node."""
    bias = input_of(node, 2)
    if not is_op(node, "Conv", "Gemm") or (bias is not None and constant_array(bias) is None):
        return False
    return all(node.attributes.get_float(factor, 1.0) == 1.0 for factor in ("alpha", "beta"))
