"""Let a reduction drop the dimensions that a Squeeze drops after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import ints_of, is_op, rank, redirect, remove, site, sole_user

REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin",
)  # fmt: skip


@dataclass(frozen=True)
class FoldSqueeze(Pass):
    """Squeeze(Reduce(x, axes, keepdims=1), axes) -> Reduce(x, axes, keepdims=0)

    Needs constant and equal axes, of a known rank unless written alike. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-squeeze"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            for node in graph:
                squeeze = sole_user(node.outputs[0]) if is_op(node, *REDUCTIONS) else None
                if squeeze is None or not is_op(squeeze, "Squeeze") or squeeze.graph is not graph:
                    continue
                if not node.attributes.get_int("keepdims", 1) or not _same_axes(node, squeeze):
                    continue
                changed += [site(node), site(squeeze)]
                node.attributes["keepdims"] = ir.AttrInt64("keepdims", 0)
                node.outputs[0].shape = None
                redirect(squeeze.outputs[0], node.outputs[0])
                remove(squeeze)
        return Outcome(tuple(changed))


def _same_axes(node: ir.Node, squeeze: ir.Node) -> bool:
    if node.op_type in ("ArgMax", "ArgMin"):
        reduced: list[int] | None = [node.attributes.get_int("axis", 0)]
    else:
        reduced = ints_of(node, "axes", 1)
    squeezed = ints_of(squeeze, "axes", 1)
    if not reduced or not squeezed:
        return False
    dims = rank(node.inputs[0])
    if dims is None:
        return reduced == squeezed
    return sorted(a % dims for a in reduced) == sorted(a % dims for a in squeezed)
