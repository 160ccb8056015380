"""Let the rules speak, node by node; what none speaks for stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules import rule_of
from lwc.compiler.analysis.channel_rules.walk import Walk, present
from lwc.compiler.analysis.terms import Reason
from lwc.compiler.analysis.units import is_constant


def walked(graph: ir.Graph, opset: int) -> Walk:
    """What the rules say about a graph, whose inputs and outputs stay. opset: of the standard domain"""
    walk = Walk(opset)
    _pin_values(walk, graph.inputs, "graph input", "the caller gives it")
    for node in graph:
        _visit(node, walk)
    _pin_values(walk, graph.outputs, "graph output", "the caller reads it")
    return walk


def _pin_values(walk: Walk, values: Iterable[ir.Value], kind: str, words: str) -> None:
    for value in values:
        for axis in walk.of(value) if value.shape is not None or value in walk.values else ():
            if axis is not None and walk.known(axis):
                walk.terms.pin(axis, Reason(kind, value.name or "", words))


def _visit(node: ir.Node, walk: Walk) -> None:
    """Let the rule of a node speak; where there is none, or it leaves an output out, all stays."""
    rule = rule_of(node)
    ranks = all(_has_rank(walk, node.inputs[index]) for index in present(node))
    if rule is not None and ranks:
        rule(node, walk)
    left = [output for output in node.outputs if output not in walk.values]
    if not left and node.outputs:
        return
    captured = list(_captured(node))
    words = "there is no rule for it" if not captured else "a subgraph reads it, or makes it"
    words = "a shape is unknown" if not ranks else "it is cut at run time, or in a way of its own" if rule else words
    for index in present(node):
        if _has_rank(walk, node.inputs[index]):
            walk.pin(node, walk.axes(node, index), words)
    for value in (*left, *captured):
        if _has_rank(walk, value):
            walk.pin(node, walk.of(value), words)


def _has_rank(walk: Walk, value: ir.Value | None) -> bool:
    return value is not None and (value in walk.values or value.shape is not None or is_constant(value))


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Values of the outer graph that subgraphs of the node read."""
    for attribute in node.attributes.values():
        graphs = attribute.value if attribute.type == ir.AttributeType.GRAPHS else (attribute.value,)
        for graph in graphs if not attribute.is_ref() else ():
            if isinstance(graph, ir.Graph):
                read = [value for inner in graph.all_nodes() for value in inner.inputs if value is not None]
                yield from (value for value in (*read, *graph.outputs) if value.graph is node.graph)
