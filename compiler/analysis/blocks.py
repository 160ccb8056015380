"""Residual blocks: y = x + f(x), which without f is y = x.

A block is an Add of two values of one type and shape, where one is computed from the other by nodes of which at least
one has weights. f may read other values too (a mask, an encoder's output). Sizes that are only known at run time are
equal by name; where f reads x alone they are so anyway, as the Add would fail else for all sizes of x but one.
Blocks can lie within each other. Named by the Add. Scope: main graph; f may hold subgraphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.weights import weights_at
from lwc.compiler.core.plan import Site

KIND = "block"


@dataclass(frozen=True)
class Block:
    """site: of the Add;  entry: which of its inputs is x;  nodes: names of all nodes that leave with it, the Add too"""

    site: Site
    entry: int
    nodes: tuple[str, ...]


def find_blocks(model: ir.Model) -> tuple[Block, ...]:
    """Residual blocks in graph order. Nodes need unique names and an order in which values are made before read."""
    numbers = {node: number for number, node in enumerate(model.graph)}
    found = (_block_at(node, numbers) for node in model.graph)
    return tuple(block for block in found if block is not None)


def _block_at(add: ir.Node, numbers: Mapping[ir.Node, int]) -> Block | None:
    if add.op_type != "Add" or add.domain != "" or not add.name or len(add.inputs) != 2:
        return None
    for entry in (0, 1):
        x, result = add.inputs[entry], add.inputs[1 - entry]
        if x is None or result is None or x.is_initializer() or x is result:
            continue
        inside = _between(x, result, numbers)
        if any(weights_at(node) for node in inside) and _alike(x, result, _reads_alone(inside, x)):
            leaving = sorted(_left_unread(add, x, result, numbers), key=lambda node: numbers[node])
            return Block(Site(add.name, "Add", KIND), entry, tuple(node.name or "" for node in leaving))
    return None


def _alike(x: ir.Value, result: ir.Value, alone: bool) -> bool:
    """Whether types and shapes are equal.  alone: `result` is a function of x and constants"""
    if x.dtype is None or x.dtype != result.dtype or x.shape is None or result.shape is None:
        return False
    return len(x.shape) == len(result.shape) and all(
        _same_size(p, q, alone) for p, q in zip(x.shape, result.shape, strict=True)
    )


def _same_size(p: ir.SymbolicDim | int, q: ir.SymbolicDim | int, alone: bool) -> bool:
    if isinstance(p, int):
        return p == q or (p > 1 and not isinstance(q, int))  # a sum of p and a size that is not p fails
    return not isinstance(q, int) and (alone or (p.value is not None and p == q))


def _reads_alone(inside: list[ir.Node], x: ir.Value) -> bool:
    """Whether these nodes read nothing but x, each other and constants."""
    made = {x, *(value for node in inside for value in node.outputs)}
    read = {value for node in inside for value in _read(node)} - made
    return all(value.is_initializer() for value in read)


def _between(x: ir.Value, result: ir.Value, numbers: Mapping[ir.Node, int]) -> list[ir.Node]:
    """The nodes by which `result` is computed from x; none when it is not."""
    maker = x.producer()
    first = -1 if maker is None else numbers.get(maker, -1)
    seen: dict[ir.Node, None] = {}
    stack = [result.producer()]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen and numbers.get(node, -1) > first:
            seen[node] = None
            stack += [value.producer() for value in _read(node)]
    derived, inside = {x}, []
    for node in sorted(seen, key=lambda node: numbers[node]):
        if any(value in derived for value in _read(node)):
            derived.update(node.outputs)
            inside.append(node)
    return inside if result in derived else []


def _left_unread(add: ir.Node, x: ir.Value, result: ir.Value, numbers: Mapping[ir.Node, int]) -> set[ir.Node]:
    """The Add, and all nodes that nobody reads without it, where x is read as before."""
    gone, stack = {add}, [result.producer()]
    while stack:
        node = stack.pop()
        if node is None or node in gone or node not in numbers or x in node.outputs:
            continue
        readers = {use.node for value in node.outputs for use in value.uses()}
        if not any(value.is_graph_output() for value in node.outputs) and readers <= gone:
            gone.add(node)
            stack += [value.producer() for value in _read(node)]
    return gone


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, and what its subgraphs read of the outside."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            yield from (value for inner in graph.all_nodes() for value in inner.inputs if value is not None)


def _graphs(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.is_ref():
        return ()
    value = attribute.value
    return (value,) if isinstance(value, ir.Graph) else ()
