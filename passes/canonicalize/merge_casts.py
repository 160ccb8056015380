"""Make one Cast of two in a row where the first one loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir import DataType as D

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import is_op, new_node, replace_node, site

# from -> the types that hold every value of it
WIDER: dict[D, frozenset[D]] = {
    D.INT8: frozenset({D.INT16, D.INT32, D.INT64, D.FLOAT16, D.FLOAT, D.DOUBLE}),
    D.UINT8: frozenset({D.INT16, D.UINT16, D.INT32, D.UINT32, D.INT64, D.UINT64, D.FLOAT16, D.FLOAT, D.DOUBLE}),
    D.INT16: frozenset({D.INT32, D.INT64, D.FLOAT, D.DOUBLE}),
    D.UINT16: frozenset({D.INT32, D.UINT32, D.INT64, D.UINT64, D.FLOAT, D.DOUBLE}),
    D.INT32: frozenset({D.INT64, D.DOUBLE}),
    D.UINT32: frozenset({D.INT64, D.UINT64, D.DOUBLE}),
    D.FLOAT16: frozenset({D.FLOAT, D.DOUBLE}),
    D.BFLOAT16: frozenset({D.FLOAT, D.DOUBLE}),
    D.FLOAT: frozenset({D.DOUBLE}),
}
WIDER[D.BOOL] = frozenset(WIDER) | {D.INT64, D.UINT64, D.DOUBLE}


@dataclass(frozen=True)
class MergeCasts(Pass):
    """Cast(Cast(x, A), B) -> Cast(x, B), when A holds every value of x's type and B is not a string.

    Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-casts"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            for node in graph:
                x = _source(node)
                if x is not None:
                    changed.append(site(node))
                    replace_node(node, new_node("Cast", [x], list(node.attributes.values())))
        return Outcome(tuple(changed))


def _source(node: ir.Node) -> ir.Value | None:
    """The value to cast directly."""
    if not is_op(node, "Cast") or node.inputs[0] is None or not _to(node):
        return None
    inner = node.inputs[0].producer()
    if inner is None or not is_op(inner, "Cast") or inner.inputs[0] is None or inner.graph is not node.graph:
        return None
    x = inner.inputs[0]
    lossless = x.dtype is not None and _to(inner) in WIDER.get(x.dtype, ())
    return x if lossless and _to(node) != D.STRING else None


def _to(node: ir.Node) -> int:
    attribute = node.attributes.get("to")
    usable = attribute is not None and not attribute.is_ref() and attribute.type == ir.AttributeType.INT
    return attribute.as_int() if attribute is not None and usable else 0
