"""Make one Reshape of two views in a row (Reshape, Flatten, Squeeze, Unsqueeze)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import (
    Names,
    add_initializer,
    input_of,
    ints_of,
    is_op,
    new_node,
    opset,
    redirect,
    remove,
    replace_node,
    site,
)  # fmt: skip

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
FIRST_WITH_SHAPE_INPUT = 5


@dataclass(frozen=True)
class MergeViews(Pass):
    """view(view(x)) -> Reshape(x, shape), because a view keeps the order of elements.

    `shape` is the outer view's result, where all of it is known but one dimension (-1; and then no other is zero),
    or the constant the outer Reshape has already, if it copies no dimension of the inner view. Also:

        Squeeze(Unsqueeze(x, a), a) -> x      Unsqueeze(Squeeze(x, a), a) -> x

    The inner view stays if others read it. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-views"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        if opset(model) < FIRST_WITH_SHAPE_INPUT:
            return Outcome()
        changed: list[Site] = []
        names = Names(model)
        for graph in model.graphs():
            for node in graph:
                inner = _inner_view(node)
                if inner is None:
                    continue
                if _cancel(inner, node) and redirect(node.outputs[0], _data(inner)):
                    changed.append(site(node))
                    remove(node)
                elif (shape := _shape(graph, node, names)) is not None:
                    changed.append(site(node))
                    replace_node(node, new_node("Reshape", [_data(inner), shape]))
        return Outcome(tuple(changed))


def _data(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _inner_view(node: ir.Node) -> ir.Node | None:
    """The view whose result `node`, a view too, reads."""
    if not is_op(node, *VIEWS) or input_of(node, 0) is None:
        return None
    inner = _data(node).producer()
    usable = inner is not None and is_op(inner, *VIEWS) and input_of(inner, 0) is not None
    return inner if inner is not None and usable and inner.graph is node.graph else None


def _cancel(inner: ir.Node, outer: ir.Node) -> bool:
    if {inner.op_type, outer.op_type} != {"Squeeze", "Unsqueeze"}:
        return False
    first, second = ints_of(inner, "axes", 1), ints_of(outer, "axes", 1)
    return bool(first) and first == second


def _shape(graph: ir.Graph, node: ir.Node, names: Names) -> ir.Value | None:
    """A constant for the shape of the outer view's result, that does not depend on what it reads."""
    known = node.outputs[0].shape
    if known is not None:
        dims = [dim if isinstance(dim, int) else -1 for dim in known]
        if dims.count(-1) <= 1 and 0 not in dims:
            return add_initializer(graph, names.claim(f"{node.outputs[0].name}.shape"), np.array(dims, np.int64))
    wanted = ints_of(node, "shape", 1) if is_op(node, "Reshape") else None
    return input_of(node, 1) if wanted and 0 not in wanted else None
