"""What is added to a layer's outputs: its bias, and the branch that it closes.

    MatMul -> Add(bias) -> Add(other branch)        Gemm, Conv with a bias -> Add(other branch)
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, eq=False)
class Sink:
    """bias: a constant that nothing else reads, one value for each output;  branch: an activation that is added"""

    bias: ir.Value | None = None
    branch: ir.Value | None = None


def sink_of(node: ir.Node, outputs: int) -> Sink:
    """Of a layer whose weight is the second factor.  outputs: how many it has at a place"""
    if node.op_type not in ("MatMul", "Gemm", "Conv") or node.inputs[0] is None or node.inputs[0].is_initializer():
        return Sink()
    if node.op_type == "Gemm" and _scales(node):
        return Sink()
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    last = node
    if node.op_type == "MatMul":
        adder, other = _added(node)
        if adder is not None and other is not None and other.is_initializer():
            bias, last = other, adder
    if bias is not None and (bias.const_value is None or bias.const_value.size != outputs or len(bias.uses()) > 1):
        return Sink()
    adder, other = _added(last)
    branch = other if adder is not None and other is not None and not other.is_initializer() else None
    return Sink(bias, branch)


def _added(node: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """The addition that alone reads a node, and what it adds."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or node.outputs[0].is_graph_output():
        return None, None
    return uses[0].node, uses[0].node.inputs[1 - uses[0].idx]


def _scales(node: ir.Node) -> bool:
    return node.attributes.get_float("alpha", 1.0) != 1.0 or node.attributes.get_float("beta", 1.0) != 1.0
