"""Replace arithmetic on shapes by constants, as far as the dimensions are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.canonicalize.dimensions import Entry, Product
from lwc.passes.canonicalize.shape_facts import Facts, Vector
from lwc.passes.canonicalize.shape_values import note_vector
from lwc.passes.canonicalize.symbolic_dims import BROADCASTING, broadcast_all, note_dims
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
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Uses types and shapes; run `infer-shapes` before. With known dimensions:

        Shape, Gather, Concat, Add ... of numbers alone    -> the numbers
        the same vector of dimensions computed twice       -> once
        Reshape(x, [N, 8, -1])  with N the first of x      -> Reshape(x, [0, 8, -1])
        Reshape(x, [8, m])      with m unknown             -> Reshape(x, [8, -1])
        a view of views of x    with the shape of x        -> x
        Expand(x, s)            with s the shape of x      -> x
        Add(Expand(x, s), y)    that Add(x, y) would be    -> Add(x, y)

    A dimension called alike is taken to be alike, as ONNX defines it. Where 0 and -1 would meet, the copied
    dimensions must be ones of graph inputs: a batch is never empty, a list of found boxes may be.
    Scope: main graph and subgraphs; in bodies of loops numbers only, since a name may mean another size there.
    """

    name: ClassVar[str] = "fold-shapes"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: dict[Site, None] = {}
        while found := _walk(model):  # a constant found by one walk can tell the next one more
            changed.update(dict.fromkeys(found))
        return Outcome(tuple(changed))


def _walk(model: ir.Model) -> list[Site]:
    """Replace what can be; the sites of replaced nodes."""
    walk = _Walk(model)
    changed: list[Site] = []
    looping = _graphs_in_loops(model)
    for graph in model.graphs():
        walk.first_made.clear()
        for node in graph:
            found = site(node)
            if walk.visit(graph, node, named=graph not in looping):
                changed.append(found)
    return changed


def _graphs_in_loops(model: ir.Model) -> set[ir.Graph]:
    found: set[ir.Graph] = set()
    for node in model.graph.all_nodes():
        if is_op(node, "Loop", "Scan"):
            for attribute in node.attributes.values():
                for graph in graphs_of(attribute):
                    found.update((graph, *graph.subgraphs()))
    return found


@dataclass
class _Walk:
    """One walk over a model in order of computation.

    first_made: the first value of the graph at hand that holds a vector
    never_empty: names of the dimensions of graph inputs
    """

    model: ir.Model
    facts: Facts = field(default_factory=Facts)
    first_made: dict[Vector, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.model)
        self.reshapes = opset(self.model) >= FIRST_WITH_SHAPE_INPUT
        inputs = (self.facts.dims_of(value) or [] for value in self.model.graph.inputs)
        self.never_empty = {atom for dims in inputs for dim in dims if isinstance(dim, Product) for atom in dim.atoms}

    def visit(self, graph: ir.Graph, node: ir.Node, *, named: bool) -> bool:
        """Note what is known of the node's results, and replace it if that is enough. True when it did."""
        note_vector(node, self.facts)
        if self._fold_numbers(graph, node):
            return True
        if not named:
            return False
        note_dims(node, self.facts)
        if self._reuse_vector(node):
            return True
        if is_op(node, *VIEWS):
            return self._drop_view(node) or (self.reshapes and self._fold_reshape(graph, node))
        if is_op(node, *BROADCASTING):
            return self._skip_expands(node)
        return is_op(node, "Expand") and self._drop_expand(node)

    def _fold_numbers(self, graph: ir.Graph, node: ir.Node) -> bool:
        if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            return False
        output = node.outputs[0]
        vector = self.facts.vectors.get(output)
        array = vector.array() if vector is not None else None
        if vector is None or array is None:
            return False
        name = output.name or self.names.claim("shape")
        output.name = None
        folded = add_initializer(graph, name, array)
        self.facts.vectors[folded] = vector
        output.replace_all_uses_with(folded)
        remove(node)
        return True

    def _reuse_vector(self, node: ir.Node) -> bool:
        """Another value holds the same entries already."""
        output = node.outputs[0]
        vector = self.facts.vectors.get(output)
        if vector is None or None in vector.entries or output.is_graph_output() or not output.uses():
            return False
        first = self.first_made.setdefault(vector, output)
        if first is output:
            return False
        redirect(output, first)
        remove(node)
        return True

    def _drop_view(self, node: ir.Node) -> bool:
        """A value that the view goes back to, over other views, has the same dimensions."""
        wanted = self.facts.dims_of(node.outputs[0])
        if wanted is None:
            return False
        source = node
        while is_op(source, *VIEWS) and source.inputs[0] is not None:
            value = source.inputs[0]
            if self.facts.dims_of(value) == wanted and redirect(node.outputs[0], value):
                remove(node)
                return True
            producer = value.producer()
            if producer is None:
                break
            source = producer
        return False

    def _fold_reshape(self, graph: ir.Graph, node: ir.Node) -> bool:
        data, shape = node.inputs[0], input_of(node, 1)
        if not is_op(node, "Reshape") or data is None or shape is None or constant(shape) is not None:
            return False
        vector = self.facts.vector_of(shape)
        if vector is None or vector.scalar:
            return False
        if node.attributes.get_int("allowzero", 0) == 1 and 0 in vector.entries:
            return False
        wanted = self._constant_shape(list(vector.entries), self.facts.dims_of(data) or [])
        if wanted is None:
            return False
        node.attributes.pop("allowzero", None)
        node.replace_input_with(1, add_initializer(graph, self.names.claim(f"{shape.name}.known"), wanted))
        return True

    def _constant_shape(self, entries: list[Entry], have: list[Entry]) -> Array | None:
        """The wanted shape in numbers: 0 for a dimension that is copied, -1 for one that follows from the others."""
        shape: list[int] = []
        copied: list[Product] = []
        unknown = 0
        for axis, entry in enumerate(entries):
            if isinstance(entry, int):
                shape.append(entry)
            elif entry is not None and axis < len(have) and have[axis] == entry:
                shape.append(0)
                copied.append(entry)
            else:
                shape.append(-1)
                unknown += 1
        if shape.count(-1) > 1:
            return None
        if unknown and (0 in entries or any(atom not in self.never_empty for dim in copied for atom in dim.atoms)):
            return None
        return np.array(shape, dtype=np.int64)

    def _skip_expands(self, node: ir.Node) -> bool:
        """The operator broadcasts to its result without the Expand before one of its inputs."""
        wanted = self.facts.dims_of(node.outputs[0])
        skipped = False
        for index, value in enumerate(node.inputs):
            expand = value.producer() if value is not None else None
            if expand is None or not is_op(expand, "Expand"):
                continue
            inputs = [*node.inputs[:index], expand.inputs[0], *node.inputs[index + 1 :]]
            if wanted is not None and broadcast_all([self.facts.dims_of(v) for v in inputs]) == wanted:
                node.replace_input_with(index, expand.inputs[0])
                skipped = True
        return skipped

    def _drop_expand(self, node: ir.Node) -> bool:
        """Every wanted dimension is one, or the one that is there."""
        value, wanted = node.inputs[0], self.facts.vector_of(node.inputs[1])
        have = self.facts.dims_of(value)
        if value is None or have is None or wanted is None or wanted.scalar or len(wanted.entries) > len(have):
            return False
        tail = have[len(have) - len(wanted.entries) :]
        if not all(w is not None and w in (1, d) for w, d in zip(wanted.entries, tail, strict=True)):
            return False
        if not redirect(node.outputs[0], value):
            return False
        remove(node)
        return True
