"""Which sites exchange values, looking through operators that only move data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.core.plan import Site

TRANSPARENT = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "Expand", "Identity"}
)
ABSORBED = frozenset({"Relu", "Clip"})


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
    """One Flow per value that a site of the main graph makes or reads, constants left out."""
    by_name = {site.name: site for site in sites}
    roots: dict[ir.Value, None] = {}
    for node in graph:
        if node.name in by_name:
            for value in (*node.inputs, *node.outputs):
                if value is not None and not _is_constant(value):
                    roots.setdefault(_root(value, by_name))
    found = []
    for root in roots:
        readers, as_float = _readers(root, by_name)
        producer = _producing_site(root, by_name)
        found.append(Flow(root.name or "", producer, tuple(readers), as_float))
    return tuple(found)


def _is_constant(value: ir.Value) -> bool:
    return value.const_value is not None


def _root(value: ir.Value, by_name: dict[str, Site]) -> ir.Value:
    """The value as it was made, before operators that only move it (and before a Relu that a site absorbs)."""
    while (node := value.producer()) is not None and node.name not in by_name and node.inputs:
        moves = node.op_type in TRANSPARENT and node.domain == ""
        absorbed = node.op_type in ABSORBED and node.inputs[0] is not None and _made_by_site(node.inputs[0], by_name)
        first = node.inputs[0]
        if not (moves or absorbed) or first is None or _is_constant(first):
            break
        value = first
    return value


def _made_by_site(value: ir.Value, by_name: dict[str, Site]) -> bool:
    node = value.producer()
    return node is not None and node.name in by_name and len(value.uses()) == 1


def _producing_site(value: ir.Value, by_name: dict[str, Site]) -> Site | None:
    node = value.producer()
    return by_name.get(node.name or "") if node is not None else None


def _readers(root: ir.Value, by_name: dict[str, Site]) -> tuple[Iterable[Site], bool]:
    readers: dict[Site, None] = {}
    as_float = False
    pending = [root]
    while pending:
        value = pending.pop()
        as_float |= value.is_graph_output()
        for node, index in value.uses():
            if node.name in by_name and node.graph is root.graph:
                readers.setdefault(by_name[node.name])
            elif index == 0 and node.domain == "" and _moves_on(node, value, root, by_name):
                pending.extend(node.outputs)
            else:
                as_float = True
    return readers, as_float


def _moves_on(node: ir.Node, value: ir.Value, root: ir.Value, by_name: dict[str, Site]) -> bool:
    if node.op_type in TRANSPARENT:
        return True
    return node.op_type in ABSORBED and value is root and _made_by_site(root, by_name)

