"""Replace arithmetic on shapes by constants, as far as the dimensions are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.canonicalize.shape_values import Entry, Known, dims, interpret, lookup
from lwc.passes.edit import (
    Array,
    Names,
    add_initializer,
    constant,
    graphs_of,
    input_of,
    is_op,
    opset,
    redirect,
    remove,
    site,
)

FIRST_WITH_SHAPE_INPUT = 5


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Uses types and shapes; run `infer-shapes` before. With known dimensions:

        Shape, Gather, Concat, Add ... of numbers alone    -> the numbers
        Reshape(x, [N, 8, -1])  with N the first of x      -> Reshape(x, [0, 8, -1])
        Reshape(x, [8, m])      with m unknown             -> Reshape(x, [8, -1])
        Expand(x, s)            with s the shape of x      -> x

    A dimension called alike is taken to be alike, as ONNX defines it. Where 0 and -1 would meet, the copied
    dimensions must be ones of graph inputs: a batch is never empty, a list of found boxes may be.
    Scope: main graph and subgraphs; in bodies of loops numbers only, since a name may mean another size there.
    """

    name: ClassVar[str] = "fold-shapes"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        names, known = Names(model), Known()
        never_empty = {dim for value in model.graph.inputs for dim in dims(value) or () if isinstance(dim, str)}
        looping = _graphs_in_loops(model)
        for graph in model.graphs():
            named = graph not in looping
            reshapes = named and opset(model) >= FIRST_WITH_SHAPE_INPUT
            for node in graph:
                interpret(node, known)
                done = _fold_numbers(graph, node, known, names)
                if not done and reshapes and is_op(node, "Reshape"):
                    done = _fold_reshape(graph, node, known, names, never_empty)
                elif not done and named and is_op(node, "Expand"):
                    done = _drop_expand(node, known)
                if done:
                    changed.append(site(node))
        return Outcome(tuple(changed))


def _graphs_in_loops(model: ir.Model) -> set[ir.Graph]:
    found: set[ir.Graph] = set()
    for node in model.graph.all_nodes():
        if is_op(node, "Loop", "Scan"):
            for attribute in node.attributes.values():
                for graph in graphs_of(attribute):
                    found.update((graph, *graph.subgraphs()))
    return found


def _fold_numbers(graph: ir.Graph, node: ir.Node, known: Known, names: Names) -> bool:
    if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return False
    output = node.outputs[0]
    vector = known.get(output)
    array = vector.array() if vector is not None else None
    if vector is None or array is None:
        return False
    name = output.name or names.claim("shape")
    output.name = None
    folded = add_initializer(graph, name, array)
    known[folded] = vector
    output.replace_all_uses_with(folded)
    remove(node)
    return True


def _fold_reshape(graph: ir.Graph, node: ir.Node, known: Known, names: Names, never_empty: set[str]) -> bool:
    data, shape = node.inputs[0], input_of(node, 1)
    if data is None or shape is None or constant(shape) is not None:
        return False
    vector = lookup(shape, known)
    if vector is None or vector.scalar:
        return False
    allow_zero = node.attributes.get_int("allowzero", 0) == 1
    wanted = _constant_shape(list(vector.entries), dims(data) or [], allow_zero, never_empty)
    if wanted is None:
        return False
    node.replace_input_with(1, add_initializer(graph, names.claim(f"{shape.name}.known"), wanted))
    return True


def _constant_shape(
    entries: list[Entry], have: list[Entry], allow_zero: bool, never_empty: set[str]
) -> Array | None:
    """The wanted shape in numbers, 0 for a dimension that is copied and -1 for one that follows from the others."""
    if allow_zero or entries.count(-1) > 1:
        return None
    shape: list[int] = []
    copied: list[str] = []
    unknown = 0
    for axis, entry in enumerate(entries):
        if isinstance(entry, int):
            shape.append(entry)
        elif isinstance(entry, str) and axis < len(have) and have[axis] == entry:
            shape.append(0)
            copied.append(entry)
        else:
            shape.append(-1)
            unknown += 1
    if shape.count(-1) > 1 or (unknown and not all(symbol in never_empty for symbol in copied)):
        return None
    if unknown and 0 in [entry for entry in entries if isinstance(entry, int)]:
        return None
    return np.array(shape, dtype=np.int64)


def _drop_expand(node: ir.Node, known: Known) -> bool:
    """Every wanted dimension is one, or the one that is there."""
    value, wanted = node.inputs[0], lookup(node.inputs[1], known)
    have = dims(value) if value is not None else None
    if value is None or have is None or wanted is None or wanted.scalar or len(wanted.entries) > len(have):
        return False
    tail = have[len(have) - len(wanted.entries) :]
    if not all(w is not None and w in (1, d) for w, d in zip(wanted.entries, tail, strict=True)):
        return False
    if not redirect(node.outputs[0], value):
        return False
    remove(node)
    return True
