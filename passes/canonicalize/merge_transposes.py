"""Make one Transpose of two in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import is_op, new_node, rank, replace_node, site


@dataclass(frozen=True)
class MergeTransposes(Pass):
    """Transpose(Transpose(x, p), q) -> Transpose(x, r)      r[i] = p[q[i]]

    When r is the identity, `remove-no-ops` takes it away. The inner one stays if others read it.
    Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-transposes"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            for node in graph:
                if not is_op(node, "Transpose") or node.inputs[0] is None:
                    continue
                inner = node.inputs[0].producer()
                if inner is None or not is_op(inner, "Transpose") or inner.graph is not graph:
                    continue
                p, q = _permutation(inner), _permutation(node)
                if p is None or q is None or len(p) != len(q):
                    continue
                changed.append(site(node))
                merged = ir.AttrInt64s("perm", [p[axis] for axis in q])
                replace_node(node, new_node("Transpose", [inner.inputs[0]], [merged]))
        return Outcome(tuple(changed))


def _permutation(node: ir.Node) -> list[int] | None:
    """`perm`, or its default: all axes reversed."""
    attribute = node.attributes.get("perm")
    if attribute is not None:
        return None if attribute.is_ref() else list(attribute.as_ints())
    dims = rank(node.inputs[0])
    return None if dims is None else list(range(dims))[::-1]
