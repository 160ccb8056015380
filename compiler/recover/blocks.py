"""Where a graph can be cut into blocks that are taught one after another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.core.model import Model
from lwc.compiler.recover.program import read_by

_WIDEST = 4  # values that may cross a cut
_MOST = 16  # blocks


@dataclass(frozen=True)
class Cut:
    """A place between two nodes.

    alive: values made before it (inputs of the graph aside) that are read behind it
    taught: those of them that are floats, which the teacher has as well
    """

    alive: tuple[str, ...]
    taught: tuple[str, ...]


def find_cuts(model: Model, known: Collection[str], learning: Collection[str]) -> list[Cut]:
    """Cuts in the order of the graph, each right before a product whose weights learn and behind another one.

    known: values that the teacher has;  learning: names of initializers
    Of the cuts whose floats are known those that few values cross: as many as it takes for two blocks, 4 at most.
    """
    nodes = list(model.graph)
    weights = {value for name, value in model.graph.initializers.items() if name in learning and _is_matrix(value)}
    products = [any(value in weights for value in node.inputs) for node in nodes]
    cuts = [_cut(values) for values in _alive(model.graph, nodes)]
    for width in range(1, _WIDEST + 1):
        fits = [0 < len(cut.taught) <= width and set(cut.taught) <= set(known) for cut in cuts]
        found = list(_before_products(cuts, fits, products))
        if found:
            return _thinned(found)
    return []


def _is_matrix(value: ir.Value) -> bool:
    return value.const_value is not None and len(value.const_value.shape) > 1


def _before_products(cuts: Sequence[Cut], fits: Sequence[bool], products: Sequence[bool]) -> Iterator[Cut]:
    nearest: Cut | None = None
    behind = False
    for cut, fit, product in zip(cuts, fits, products, strict=True):
        if product:
            if behind and nearest is not None:
                yield nearest
            nearest, behind = None, True
        if fit:
            nearest = cut


def _thinned(cuts: list[Cut]) -> list[Cut]:
    """At most so many, evenly chosen."""
    if len(cuts) < _MOST:
        return cuts
    step = len(cuts) / (_MOST - 1)
    return [cuts[int(k * step)] for k in range(_MOST - 1)]


def _cut(values: Collection[ir.Value]) -> Cut:
    names = tuple(sorted(value.name or "" for value in values))
    floats = {value.name for value in values if value.dtype is None or value.dtype.is_floating_point()}
    return Cut(names, tuple(name for name in names if name in floats))


def _alive(graph: ir.Graph, nodes: Sequence[ir.Node]) -> list[set[ir.Value]]:
    """Behind each node: values that depend on inputs, were made up to it, and are read behind it or are outputs."""
    dynamic: set[ir.Value] = set(graph.inputs) - set(graph.initializers.values())
    last: dict[ir.Value, int] = {}
    for k, node in enumerate(nodes):
        read = read_by(node)
        if any(value in dynamic for value in read):
            dynamic.update(node.outputs)
        last.update(dict.fromkeys(read, k))
    last.update(dict.fromkeys(graph.outputs, len(nodes)))
    now: set[ir.Value] = set()
    found = []
    for k, node in enumerate(nodes):
        now = {value for value in (*now, *node.outputs) if value in dynamic and last.get(value, -1) > k}
        found.append(now)
    return found
