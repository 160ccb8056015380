"""Make one layer two of low rank, as the plan says.

    y = W x + b        y = A (B x) + b        W [out, in] ~ A [out, rank] B [rank, in]

Conv: B keeps kernel, strides and padding, A is a convolution of 1x1. The node that reads x keeps its name, so that
statistics of x stay its own; the other is `<name>.up`, and counts as part of the site. Scope: main graph.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY, site_of
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import LowRank, Site
from lwc.passes.edit import Array, Names, add_initializer, is_op, new_node, replace_node
from lwc.passes.solvers.low_rank import Spectrum, largest_rank
from lwc.passes.sparsity.at_sites import NO_NODE, at_sites
from lwc.passes.sparsity.layer import Layer, drop_unread, layer_of, write_bias

FACTORED_KEY = "lwc.factored"  # in the metadata of a node that was made two


@dataclass(frozen=True)
class FactorWeights(Pass):
    """Applies LowRank at the plan's sites."""

    name: ClassVar[str] = "factor-weights"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        nodes, names = {node.name or "": node for node in model.graph}, Names(model)

        def change(site: Site, choice: LowRank) -> str | None:
            node = nodes.get(site.name)
            if node is None:
                return NO_NODE
            if FACTORED_KEY in node.metadata_props:
                return None
            return _factor(node, choice.rank, _free(f"{site.name}.up", nodes), ctx, names)

        return at_sites(ctx.plan.sites(LowRank), change)


def _free(wanted: str, nodes: dict[str, ir.Node]) -> str:
    name = wanted
    while name in nodes:
        name += ".1"
    return name


def _factor(node: ir.Node, rank: int, name: str, ctx: PassContext, names: Names) -> str:
    """Put two nodes in the place of one; the reason when it stays."""
    layer = layer_of(node, ctx.stats.get(site_of(node)))
    if isinstance(layer, str):
        return layer
    if reason := whole_reason(layer):
        return reason
    largest = min(largest_rank(layer.view.rows, layer.view.columns), layer.view.rows, layer.view.columns)
    if not 0 < rank <= largest:
        return f"of rank {rank}, its factors are not fewer weights: at most {largest}"
    up, down = spectrum_of(layer, ctx.solved).factors(rank)
    matrix = layer.matrices()[0]
    bias = write_bias(node, layer.shift([up @ down]), names) if not is_op(node, "MatMul") else None
    outer = _nodes(layer, up.astype(matrix.dtype), down.astype(matrix.dtype), bias, names)
    outer.name = name
    old = list(node.inputs)
    replace_node(node, outer)
    outer.metadata_props[SITE_KEY] = node.name or ""
    drop_unread(layer.weight, *old[2:3])
    return ""


def whole_reason(layer: Layer) -> str:
    """Why a layer cannot become two, whatever the rank; empty where it can."""
    if len(layer.grams) > 1:
        return "its channels are in groups"
    transposed = is_op(layer.node, "Gemm") and layer.node.attributes.get_int("transA", 0) == 1
    return "it reads its input transposed" if transposed else ""


def spectrum_of(layer: Layer, memo: MutableMapping[Any, Any]) -> Spectrum:
    """The same for every rank and every fork of a model.  memo: PassContext.solved"""
    tensor = layer.weight.const_value
    key = ("spectrum", id(tensor), id(layer.grams[0]))
    if key not in memo:
        memo[key] = ((tensor, layer.grams), Spectrum.of(layer.matrices()[0], layer.moments(0)))
    found: Spectrum = memo[key][1]
    return found


def _nodes(layer: Layer, up: Array, down: Array, bias: ir.Value | None, names: Names) -> ir.Node:
    """Insert the node of B before the layer's; returns that of A, which is not in the graph yet."""
    node, graph = layer.node, layer.node.graph
    assert graph is not None

    def constant(suffix: str, array: Array) -> ir.Value:
        return add_initializer(graph, names.claim(f"{layer.weight.name}.{suffix}"), np.ascontiguousarray(array))

    x = node.inputs[1 - layer.view.index]
    if is_op(node, "Conv"):
        kernel = layer.array.shape[1:]
        inner = new_node("Conv", [x, constant("down", down.reshape(-1, *kernel))], list(node.attributes.values()))
        axis = 1
    elif layer.view.index == 0:
        inner, axis = new_node("MatMul", [constant("down", down), x]), -2
    else:
        inner, axis = new_node(node.op_type, [x, constant("down", down.T)], _attributes(node, "alpha")), -1
    inner.name = node.name
    inner.metadata_props.update(node.metadata_props)
    inner.metadata_props[FACTORED_KEY] = str(len(down))
    output, middle = node.outputs[0], inner.outputs[0]
    middle.name, middle.type = names.claim(f"{output.name}.down"), output.type
    if output.shape is not None:
        dims = list(output.shape)
        dims[axis] = len(down)
        middle.shape = ir.Shape(dims)
    graph.insert_before(node, inner)
    given = [] if bias is None else [bias]
    if is_op(node, "Conv"):
        ones = (1,) * (len(kernel) - 1)
        return new_node("Conv", [middle, constant("up", up.reshape(*up.shape, *ones)), *given])
    if layer.view.index == 0:
        return new_node("MatMul", [constant("up", up), middle])
    return new_node(node.op_type, [middle, constant("up", up.T), *given], _attributes(node, "beta"))


def _attributes(node: ir.Node, *kept: str) -> list[ir.Attr]:
    return [attribute for name, attribute in node.attributes.items() if name in kept]
