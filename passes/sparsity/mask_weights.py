"""Set weights to zero in a pattern, as the plan says, and solve those that are left again.

N of M are counted along the inputs of each output, for a convolution along the channels under one tap of its kernel:
what sparse tensor cores skip. Blocks are of outputs by inputs in that order. The weight stays a dense constant; which
runtimes run it faster, `lwc.passes.sparsity.executed` says. Scope: sites of the main graph.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Masked, Site
from lwc.passes.edit import Array, Names, add_initializer, is_op
from lwc.passes.solvers.masks import masked
from lwc.passes.solvers.patterns import Pattern, pattern_of
from lwc.passes.sparsity.at_sites import NO_NODE, at_sites
from lwc.passes.sparsity.layer import Floats, Layer, drop_unread, layer_of, write_bias

MASKED_KEY = "lwc.masked"  # in the metadata of a node whose weight is masked


@dataclass(frozen=True)
class MaskWeights(Pass):
    """Applies Masked at the plan's sites. A node that was masked before this run stays. Raises BadPlan."""

    name: ClassVar[str] = "mask-weights"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        nodes, names = {node.name: node for node in model.graph}, Names(model)

        def change(site: Site, choice: Masked) -> str | None:
            pattern = pattern_of(choice.pattern, choice.density)
            node = nodes.get(site.name)
            if node is None:
                return NO_NODE
            return None if MASKED_KEY in node.metadata_props else _mask(node, choice, pattern, ctx, names)

        return at_sites(ctx.plan.sites(Masked), change)


def _mask(node: ir.Node, choice: Masked, pattern: Pattern, ctx: PassContext, names: Names) -> str:
    """Give the node a masked weight; the reason when it stays as it is."""
    layer = layer_of(node, ctx.stats.get(site_of(node)))
    if isinstance(layer, str):
        return layer
    weight, shift = _solved(layer, choice, pattern, ctx.solved)
    if np.array_equal(weight, layer.array):
        return "its weight has these zeros already"
    graph, old, bias = node.graph, layer.weight, write_bias(node, shift, names)
    assert graph is not None
    node.replace_input_with(layer.view.index, add_initializer(graph, names.claim(f"{old.name}.masked"), weight))
    if bias is not None:
        before = node.inputs[2] if len(node.inputs) > 2 else None
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
        drop_unread(before)
    drop_unread(old)
    node.metadata_props[MASKED_KEY] = choice.pattern
    return ""


def _solved(
    layer: Layer, choice: Masked, pattern: Pattern, memo: MutableMapping[Any, Any]
) -> tuple[Array, Floats]:
    """The weight in its constant's layout, and the shift of the bias; solved once for all forks of a model."""
    tensor = layer.weight.const_value
    # Matrices per group are slices, made anew each time: told apart by where their numbers lie.
    key = ("masked", id(tensor), *(None if gram is None else gram.ctypes.data for gram in layer.grams), choice)
    if key not in memo:
        try:
            parts = [_solve(layer, k, matrix, choice, pattern) for k, matrix in enumerate(layer.matrices())]
        except BadPlan as error:
            raise BadPlan(f"'{layer.node.name}': {error}") from error
        array = layer.array
        weight = layer.view.back(np.concatenate(parts)).reshape(array.shape).astype(array.dtype)
        memo[key] = ((tensor, layer.grams), weight, layer.shift(parts))  # what the key names stays alive
    _, weight, shift = memo[key]
    return weight, shift


def _solve(layer: Layer, group: int, matrix: Array, choice: Masked, pattern: Pattern) -> Floats:
    order = _by_tap(layer)
    moments = layer.moments(group)
    ordered = None if moments is None else moments[np.ix_(order, order)]
    solved = np.empty(matrix.shape)
    solved[:, order] = masked(matrix[:, order], ordered, pattern, choice.update)
    return solved


def _by_tap(layer: Layer) -> NDArray[np.intp]:
    """The columns of a convolution's matrix, channels of one tap together; as they are for a product."""
    columns = layer.view.columns
    channels = layer.array.shape[1] if is_op(layer.node, "Conv") else columns
    return np.arange(columns).reshape(channels, -1).T.reshape(-1)
