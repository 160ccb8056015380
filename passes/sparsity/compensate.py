"""Before channels leave, the layers that read what stays take over their work: weights are solved, biases shifted.

The solved weight is written in place of the old one, zero where channels leave; these are sliced off afterwards, with
all else. What a layer lacks for it (statistics, a weight of its own) is a reason to leave its weight as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.channels import Channels, Shrunk
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.analysis.terms import Mask
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.pass_ import PassContext, Skip
from lwc.compiler.core.plan import Pruned, Site
from lwc.compiler.core.threads import one_blas_thread
from lwc.passes.edit import (
    Array,
    Names,
    add_initializer,
    constant_array,
    input_of,
    is_op,
    new_node,
    redirect,
    sole_user,
)
from lwc.passes.solvers.removal import refit
from lwc.passes.sparsity.layer import Floats, Layer, drop_unread, layer_of, output_axis, write_bias
from lwc.passes.sparsity.shrink import replace_tensor, smaller

# Least squares here; whoever applies the plan then solves the layers in order, which takes runs of the model.
IN_ORDER = "in-order"


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
    skipped = list(_quantized(nodes, channels, chosen))
    with one_blas_thread():
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
        for slot in group.consumers if group is not None and choice.compensation != "none" else ():
            if (slot.node, slot.index) not in seen:
                seen.add((slot.node, slot.index))
                method = "least-squares" if choice.compensation == IN_ORDER else choice.compensation
                yield _Consumer(nodes[slot.node], slot.index, slot.axis, method, site)


def _quantized(
    nodes: Mapping[str, ir.Node], channels: Channels, chosen: Mapping[Site, Pruned]
) -> Iterator[Skip]:
    """Readers that nothing makes up for, since their weight comes in integers."""
    for site, choice in chosen.items():
        group = channels.at(site)
        for slot in group.contracted if group is not None and choice.compensation != "none" else ():
            if any(_is_integers(value) for value in nodes[slot.node].inputs[:2]):
                yield Skip(site, f"the weight of '{slot.node}' stays as it is: it is quantized already")


def _is_integers(value: ir.Value | None) -> bool:
    """Whether this is a constant behind a DequantizeLinear."""
    node = None if value is None else value.producer()
    return is_op(node, "DequantizeLinear") and node is not None and constant_array(node.inputs[0]) is not None


def _solve(consumer: _Consumer, shrunk: Shrunk, ctx: PassContext, names: Names) -> str:
    """Write the solved weight and shift the bias; the reason when that cannot be."""
    node = consumer.node
    stats = ctx.stats.get(site_of(node))
    layer = layer_of(node, stats)
    if isinstance(layer, str):
        return layer
    if stats is None or layer.view.index != consumer.index:
        return "there are no statistics of what it sees"
    mask = np.zeros(layer.array.shape, np.bool_)
    np.moveaxis(mask, consumer.axis, 0)[shrunk.constants[node, consumer.index][consumer.axis]] = True
    kept = layer.view.matrix(mask)[0]
    tensor = layer.weight.const_value
    key = ("pruned", id(tensor), id(stats), kept.tobytes(), consumer.method)
    try:
        if key not in ctx.solved:
            ctx.solved[key] = (tensor, stats, *_solved(layer, kept, consumer.method))
    except BadPlan as error:
        return str(error)
    _, _, weight, shift = ctx.solved[key]
    replace_tensor(layer.weight, weight)
    if shift.any():
        _shift(layer, shift, shrunk, names)
    return ""


def _solved(layer: Layer, kept: Mask, method: str) -> tuple[Array, Floats]:
    """The weight, zero where inputs leave, and the shift of the bias [out]; per group of a convolution."""
    weights, shifts = [], []
    means = layer.inputs if is_op(layer.node, "MatMul") else layer.means
    for matrix, gram, mean in zip(layer.matrices(), layer.grams, means, strict=True):
        left, shift = refit(matrix, gram, mean, kept, method)
        whole = np.zeros(matrix.shape)
        whole[:, kept] = left
        weights.append(whole)
        shifts.append(shift)
    old: Array = layer.array
    solved = layer.view.back(np.concatenate(weights)).reshape(old.shape).astype(old.dtype)
    return solved, np.concatenate(shifts)


def _shift(layer: Layer, shift: Floats, shrunk: Shrunk, names: Names) -> None:
    """Add to the bias, [out]: to a constant that is there and is cut later, or a new one, cut as the output is."""
    node, output = layer.node, layer.node.outputs[0]
    rank = len(output.shape) if output.shape is not None else 2
    axis = output_axis(node, layer.view)
    mask: Any = shrunk.values.get(output, {}).get(axis, slice(None))
    if is_op(node, "Conv", "Gemm"):
        old = input_of(node, 2)
        bias = write_bias(node, shift if old is not None else shift[mask], names)
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
        drop_unread(old)
    elif not _shift_follower(output, shift, axis == rank - 1, names):
        _add_behind(node, shift[mask].reshape(-1, *(1,) * (rank - 1 - axis)), shrunk, names)


def _shift_follower(output: ir.Value, shift: Floats, last: bool, names: Names) -> bool:
    """Let a bias that is added to a product take the shift, if there is one that is of nothing else."""
    follower = sole_user(output)
    for k, value in enumerate(follower.inputs if is_op(follower, "Add") and follower is not None and last else ()):
        bias = constant_array(value)
        if value is not None and bias is not None and bias.shape == shift.shape and follower is not None:
            graph = follower.graph
            assert graph is not None
            whole = (bias + shift).astype(bias.dtype)
            follower.replace_input_with(k, add_initializer(graph, names.claim(f"{value.name}.shifted"), whole))
            drop_unread(value)
            return True
    return False


def _add_behind(node: ir.Node, bias: Floats, shrunk: Shrunk, names: Names) -> None:
    """A node that adds the bias, and takes the output's place for all who read it."""
    output, graph = node.outputs[0], node.graph
    assert graph is not None
    name = names.claim(f"{output.name}.shifted")
    dtype = (output.dtype or ir.DataType.FLOAT).numpy()
    add = new_node("Add", [output, add_initializer(graph, names.claim(f"{name}.bias"), bias.astype(dtype))])
    add.name = add.outputs[0].name = name
    add.outputs[0].type = output.type
    if output.shape is not None:
        add.outputs[0].shape = smaller(output.shape, shrunk.values.get(output, {}))
    graph.insert_after(node, add)
    redirect(output, add.outputs[0])
    add.replace_input_with(0, output)
    output.name = output.name or name
