"""Which sites exchange values, looking through operators that follow their input's format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.core.plan import Site


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


def flows(graph: ir.Graph, sites: Sequence[Site], follows: Callable[[ir.Node], bool]) -> tuple[Flow, ...]:
    """One Flow per value that a site of the main graph makes or reads as an integer, constants left out.

    follows: whether an operator works on its first input in whatever format it comes
    """
    return _Tracer(graph, sites, follows).flows()


class _Tracer:
    """Sites by the values they make and read, and the way between them."""

    def __init__(self, graph: ir.Graph, sites: Sequence[Site], follows: Callable[[ir.Node], bool]) -> None:
        self.graph = graph
        self.follows = follows
        self.units = _units(graph, sites)
        self.made_by = {unit.output: site for site, unit in self.units.items()}
        self.read_by = {(unit.node, value): site for site, unit in self.units.items() for value in unit.operands()}
        self.inner = {node for unit in self.units.values() for node in unit.tail}

    def flows(self) -> tuple[Flow, ...]:
        touched = (value for unit in self.units.values() for value in (*unit.operands(), unit.output))
        found = []
        for root in dict.fromkeys(self._root(value) for value in touched):
            readers, as_float = self._readers(root)
            found.append(Flow(root.name or "", self.made_by.get(root), readers, as_float))
        return tuple(found)

    def _root(self, value: ir.Value) -> ir.Value:
        """The value as it was made, before operators that follow."""
        while value not in self.made_by and (node := value.producer()) is not None and self.follows(node):
            first = node.inputs[0]
            assert first is not None
            value = first
        return value

    def _readers(self, root: ir.Value) -> tuple[tuple[Site, ...], bool]:
        readers: dict[Site, None] = {}
        as_float = False
        pending = [root]
        while pending:
            value = pending.pop()
            as_float |= value.is_graph_output()
            for node, index in value.uses():
                if (node, value) in self.read_by:
                    readers.setdefault(self.read_by[node, value])
                elif index == 0 and node.graph is self.graph and self.follows(node):
                    pending.extend(node.outputs)
                elif node not in self.inner:
                    as_float = True
        return tuple(readers), as_float


def _units(graph: ir.Graph, sites: Sequence[Site]) -> dict[Site, Unit]:
    nodes = {node.name: node for node in graph}
    units = {site: unit_of(nodes[site.name]) for site in sites if site.name in nodes}
    return {site: unit for site, unit in units.items() if isinstance(unit, Unit)}
