"""Before channels leave, the layers that read what stays take over their work: weights are solved, biases shifted.

The solved weight is written in place of the old one, zero where channels leave; these are sliced off afterwards, with
all else. What a consumer lacks for it (statistics, a weight of its own) is a reason to leave its weight as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.channels import Channels, Shrunk, Slot
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.mapped import kept_in_file
from lwc.compiler.core.pass_ import PassContext, Skip
from lwc.compiler.core.plan import Pruned, Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import Array, Names, add_initializer, constant_array, input_of, is_op, new_node, sole_user
from lwc.passes.solvers.moments import patch_mean
from lwc.passes.solvers.removal import refit
from lwc.passes.sparsity.shrink import replace_tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Consumer:
    """A weight that sums over channels of which some leave, and how it is to be solved. group: the first of them"""

    node: ir.Node
    index: int
    axis: int
    method: str
    group: Site


def compensate(
    nodes: Mapping[str, ir.Node],
    channels: Channels,
    chosen: Mapping[Site, Pruned],
    shrunk: Shrunk,
    ctx: PassContext,
    names: Names,
) -> list[Skip]:
    """Solve the consumers of all groups that ask for it; returns what could not be."""
    skipped = []
    for consumer in _consumers(nodes, channels, chosen):
        reason = _solve(consumer, shrunk, ctx, names)
        if reason:
            skipped.append(Skip(consumer.group, f"the weight of '{consumer.node.name}' stays as it is: {reason}"))
    return skipped


def _consumers(
    nodes: Mapping[str, ir.Node], channels: Channels, chosen: Mapping[Site, Pruned]
) -> Iterator[_Consumer]:
    seen = set()
    for site, choice in chosen.items():
        group = channels.at(site)
        slots: tuple[Slot, ...] = () if group is None or choice.compensation == "none" else group.consumers
        for slot in slots:
            if (slot.node, slot.index) not in seen:
                seen.add((slot.node, slot.index))
                yield _Consumer(nodes[slot.node], slot.index, slot.axis, choice.compensation, site)


def _solve(consumer: _Consumer, shrunk: Shrunk, ctx: PassContext, names: Names) -> str:
    """Write the solved weight and shift the bias; the reason when that cannot be."""
    node, value = consumer.node, consumer.node.inputs[consumer.index]
    stats = ctx.stats.get(site_of(node))
    view = next((view for view in weight_views(node) if view.index == consumer.index), None)
    array = constant_array(value)
    if value is None or array is None or view is None or not view.sees_activation:
        return "it sees more than one activation"
    if len(value.uses()) > 1 or value.is_graph_output():
        return "other nodes read it too"
    if stats is None:
        return "there are no statistics of what it reads"
    if is_op(node, "Gemm") and any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return "it scales what it computes"
    mask = np.zeros(array.shape, np.bool_)
    np.moveaxis(mask, consumer.axis, 0)[shrunk.constants[node, consumer.index][consumer.axis]] = True
    kept = view.matrix(mask)[0]
    grouped = stats.gram is not None and stats.gram.ndim == 3
    if view.rows % (len(stats.gram) if grouped and stats.gram is not None else 1) or (
        stats.gram is not None and stats.gram.shape[-1] != view.columns
    ):
        return "its statistics are of another layer"
    key = ("compensated", id(value.const_value), view, kept.tobytes(), consumer.method, id(stats.gram))
    if key not in ctx.solved:
        try:
            weight, shift = _solved(node, view.matrix(array), view, kept, stats, consumer.method)
        except BadPlan as error:
            return str(error)
        solved = kept_in_file(view.back(weight).reshape(array.shape).astype(array.dtype))
        ctx.solved[key] = (value.const_value, stats.gram), solved, shift
    _, solved, shift = ctx.solved[key]
    replace_tensor(value, solved)
    if shift.any():
        _shift(node, shift.astype(array.dtype), consumer.index, shrunk, names)
    return ""


def _solved(
    node: ir.Node, matrix: Array, view: WeightView, kept: NDArray[np.bool_], stats: LayerStats, method: str
) -> tuple[Floats, Floats]:
    """The weight [out, in], zero where inputs leave, and the shift of the bias [out]; per group of a convolution."""
    grams: Any = [stats.gram] if stats.gram is None or stats.gram.ndim == 2 else list(stats.gram)
    means = _means(node, stats, len(grams), view)
    parts = []
    for rows, gram, mean in zip(np.split(matrix, len(grams)), grams, means, strict=True):
        left, shift = refit(rows, gram, mean, kept, method)
        whole = np.zeros(rows.shape)
        whole[:, kept] = left
        parts.append((whole, shift))
    return np.concatenate([whole for whole, _ in parts]), np.concatenate([shift for _, shift in parts])


def _means(node: ir.Node, stats: LayerStats, groups: int, view: WeightView) -> list[Floats | None]:
    """E[x] of the inputs of each group; None where it is not known, or there is no bias to take it."""
    tensor = next((tensor for tensor in stats.inputs if tensor is not None), None)
    mean = None if tensor is None else tensor.channel_mean
    square = None if tensor is None else tensor.channel_square
    if mean is None or not is_op(node, "Conv", "Gemm", "MatMul"):
        return [None] * groups
    if not is_op(node, "Conv"):
        return [mean if len(mean) == view.columns else None]
    if stats.gram is None or square is None or len(mean) % groups:
        return [mean if len(mean) == view.columns and groups == 1 else None] * groups
    grams = stats.gram if stats.gram.ndim == 3 else stats.gram[None]
    pairs = zip(grams, np.split(mean, groups), np.split(square, groups), strict=True)
    return [patch_mean(gram, m, s) if len(gram) % len(m) == 0 else None for gram, m, s in pairs]


def _shift(node: ir.Node, shift: Array, index: int, shrunk: Shrunk, names: Names) -> None:
    """Add to the bias of a node, [out]: to a constant that is there, or a new one cut as its output is."""
    output = node.outputs[0]
    follower = sole_user(output) if is_op(node, "MatMul") else node
    for k, value in enumerate(follower.inputs if follower is not None else ()):
        bias = constant_array(value)
        is_bias = k == 2 if follower is node else is_op(follower, "Add") and index == 1
        if value is not None and bias is not None and is_bias and bias.shape == shift.shape and len(value.uses()) == 1:
            replace_tensor(value, (bias + shift).astype(bias.dtype))
            return
    axis = 1 if is_op(node, "Conv", "Gemm") else -1 if index == 1 else -2
    rank = len(output.shape) if output.shape is not None else 1
    mask = shrunk.values.get(output, {}).get(axis % rank)
    left = shift if mask is None else shift[mask]
    graph = node.graph
    assert graph is not None
    if is_op(node, "Conv", "Gemm") and input_of(node, 2) is None:
        node.resize_inputs(3)
        node.replace_input_with(2, add_initializer(graph, names.claim(f"{node.name}.bias"), left))
        return
    _add_behind(node, left.reshape(-1, *(1,) * (-axis - 1 if axis < 0 else rank - 1 - axis)), graph, shrunk, names)


def _add_behind(node: ir.Node, bias: Array, graph: ir.Graph, shrunk: Shrunk, names: Names) -> None:
    output = node.outputs[0]
    readers = list(output.uses())
    name = names.claim(f"{output.name}.shifted")
    add = new_node("Add", [output, add_initializer(graph, names.claim(f"{name}.bias"), bias)])
    add.name = add.outputs[0].name = name
    add.outputs[0].type, add.outputs[0].shape = output.type, output.shape
    graph.insert_after(node, add)
    for use in readers:
        use.node.replace_input_with(use.idx, add.outputs[0])
