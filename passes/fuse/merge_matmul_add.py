"""Make one Gemm of a MatMul and the Add of a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import is_op, new_node, opset, rank, remove, replace_node, site, sole_user, static_shape

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
FIRST_WITH_BROADCASTING = 7


@dataclass(frozen=True)
class MergeMatMulAdd(Pass):
    """Add(MatMul(A, B), c) -> Gemm(A, B, c), for matrices A [m, k], B [k, n] and a c that broadcasts to [m, n].

    One pass over the output instead of two; with more dimensions a MatMul stays, as Gemm has none for it.
    float32 and float64 only: where ONNX Runtime has both kernels. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-matmul-add"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        if opset(model) < FIRST_WITH_BROADCASTING:
            return Outcome()
        for graph in model.graphs():
            for node in graph:
                add = sole_user(node.outputs[0]) if _multiplies_matrices(node) else None
                if add is None or not is_op(add, "Add") or add.graph is not graph:
                    continue
                bias = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
                if bias is None or not _broadcasts(bias, node):
                    continue
                changed += [site(node), site(add)]
                gemm = new_node("Gemm", [*node.inputs, bias])
                gemm.name = node.name
                replace_node(add, gemm)
                remove(node)
        return Outcome(tuple(changed))


def _multiplies_matrices(node: ir.Node) -> bool:
    if not is_op(node, "MatMul"):
        return False
    a, b = node.inputs
    return a is not None and a.dtype in FLOATS and rank(a) == 2 and rank(b) == 2


def _broadcasts(bias: ir.Value, node: ir.Node) -> bool:
    """Each dimension of the bias is one or known to be the product's."""
    a, b = node.inputs
    shape = static_shape(bias)
    if shape is None or len(shape) > 2 or a is None or b is None or a.shape is None or b.shape is None:
        return False
    wanted = [a.shape[0], b.shape[1]]
    return all(dim in (1, want) for dim, want in zip(shape[::-1], wanted[::-1], strict=False))
