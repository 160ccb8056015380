"""Statistics by the name of a value, of those that nodes have of what they read and make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import onnx_ir as ir

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats, TensorStats


def stats_of_values(
    model: Model, names: Collection[str], statistics: Callable[[tuple[Site, ...]], Mapping[Site, LayerStats]]
) -> dict[str, TensorStats]:
    """Name -> statistics of these values of the main graph, where there are any.

    statistics: of the nodes that make the values or, for graph inputs, read them
    """
    nodes = {Site(node.name or "", node.op_type, "value"): node for node in _nodes_that_touch(model, names)}
    stats = statistics(tuple(nodes))
    found: dict[str, TensorStats] = {}
    for site, node in nodes.items():
        pairs = zip((*node.inputs, *node.outputs), (*stats[site].inputs, *stats[site].outputs), strict=True)
        found.update({v.name: seen for v, seen in pairs if v and v.name and v.name in names and seen})
    return found


def _nodes_that_touch(model: Model, names: Collection[str]) -> list[ir.Node]:
    """Producers of the values; for graph inputs, a node that reads them."""
    nodes: dict[ir.Node, None] = {}
    for node in model.graph:
        if any(value.name in names for value in node.outputs):
            nodes.setdefault(node)
    inputs = {value.name for value in model.graph.inputs if value.name in names}
    for node in model.graph:
        read = {value.name for value in node.inputs if value is not None} & inputs
        if read:
            nodes.setdefault(node)
            inputs -= read
    return list(nodes)
