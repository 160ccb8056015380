"""Which sites exchange values, looking through operators that only move data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, is_constant, unit_of
from lwc.compiler.core.plan import Site

# They move values in whatever format these come.
TRANSPARENT = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "Identity", "MaxPool"}
)


@dataclass(frozen=True)
class Flow:
    """A value that may change format on its way.

    producer: None when no site makes it
    read_as_float: some reader is no site, or it is a graph output
    """

    value: str
    producer: Site | None
    consumers: tuple[Site, ...]
    read_as_float: bool


def flows(graph: ir.Graph, sites: Sequence[Site]) -> tuple[Flow, ...]:
    """One Flow per value that a site of the main graph makes or reads as an integer, constants left out."""
    units = _units(graph, sites)
    made_by = {unit.output: site for site, unit in units.items()}
    read_by: dict[tuple[ir.Node, ir.Value], Site] = {
        (unit.node, value): site for site, unit in units.items() for value in unit.operands()
    }
    inner = {node for unit in units.values() for node in unit.tail}
    roots = dict.fromkeys(_root(value) for unit in units.values() for value in (*unit.operands(), unit.output))
    found = []
    for root in roots:
        readers, as_float = _readers(root, read_by, inner)
        found.append(Flow(root.name or "", made_by.get(root), readers, as_float))
    return tuple(found)


def _units(graph: ir.Graph, sites: Sequence[Site]) -> dict[Site, Unit]:
    nodes = {node.name: node for node in graph}
    units = {site: unit_of(nodes[site.name]) for site in sites if site.name in nodes}
    return {site: unit for site, unit in units.items() if isinstance(unit, Unit)}


def _root(value: ir.Value) -> ir.Value:
    """The value as it was made, before operators that only move it."""
    while (node := value.producer()) is not None and _moves(node):
        first = node.inputs[0]
        assert first is not None
        value = first
    return value


def _moves(node: ir.Node) -> bool:
    return (
        node.op_type in TRANSPARENT
        and node.domain == ""
        and bool(node.inputs)
        and node.inputs[0] is not None
        and not is_constant(node.inputs[0])
    )


def _readers(
    root: ir.Value, read_by: Mapping[tuple[ir.Node, ir.Value], Site], inner: set[ir.Node]
) -> tuple[tuple[Site, ...], bool]:
    readers: dict[Site, None] = {}
    as_float = False
    pending = [root]
    while pending:
        value = pending.pop()
        as_float |= value.is_graph_output()
        for node, index in value.uses():
            if (node, value) in read_by:
                readers.setdefault(read_by[node, value])
            elif index == 0 and _moves(node) and node.graph is root.graph:
                pending.extend(node.outputs[:1] if node.op_type == "MaxPool" else node.outputs)
            elif node not in inner:
                as_float = True
    return tuple(readers), as_float
