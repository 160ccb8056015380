"""What lowering a unit gives, and the small steps that all lowerings share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit
from lwc.passes.precision.integers import Codes, Scale

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter


@dataclass(frozen=True, eq=False)
class Lowered:
    """value: the float result, to be quantized with `scale` and dequantized with `read_as`

    codes: the result when it is integer already;  kept: whether the unit's own node stays
    """

    value: ir.Value
    scale: Scale | None = None
    read_as: Scale | None = None
    codes: Codes | None = None
    kept: bool = True


def result(rewriter: Rewriter, unit: Unit, value: ir.Value, kept: bool) -> Lowered:
    """A float result that is quantized with the scale of the unit's range, where the unit writes integers."""
    if unit.node not in rewriter.formats.emitting:
        return Lowered(value, kept=kept)
    scale = rewriter.output_scale(unit)
    return Lowered(value, scale, scale, kept=kept)


def insert(
    rewriter: Rewriter, before: ir.Node, node: ir.Node, type_: ir.TypeProtocol | None = None, name: str | None = None
) -> ir.Value:
    """Put a node in the graph; its output."""
    rewriter.graph.insert_before(before, node)
    if type_ is not None:
        node.outputs[0].type = type_
    if name is not None:
        node.name = name
    return node.outputs[0]


def input_of(unit: Unit, index: int = 0) -> ir.Value:
    """An input that is there."""
    value = unit.node.inputs[index]
    assert value is not None
    return value


def with_weight(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Conv, Gemm or MatMul between the integer forms of its activation, weight and bias."""
    node, value = unit.node, input_of(unit)
    codes = rewriter.codes(value)
    weight, bias = weight_and_bias(rewriter, unit, codes.scale.step)
    node.replace_input_with(0, rewriter.dequantized(codes, value, node))
    node.replace_input_with(1, weight)
    if bias is not None:
        node.replace_input_with(2, bias)
    for factor in ("alpha", "beta"):
        node.attributes.pop(factor, None)
    return result(rewriter, unit, node.outputs[0], kept=True)


def weight_and_bias(rewriter: Rewriter, unit: Unit, step: float) -> tuple[ir.Value, ir.Value | None]:
    """Float views of the unit's int8 weight and int32 bias. step: the scale of its activation"""
    method = rewriter.methods[unit.node.name or ""]
    mean = rewriter.means.get(unit.node.name or "")
    weight, bias = rewriter.weights.weight_and_bias(unit, method, step, mean)
    axis = {} if weight.axis is None else {"axis": weight.axis}
    like = input_of(unit, unit.weight or 0)
    nodes = [rewriter.writer.node("DequantizeLinear", [weight.codes, weight.scale, weight.zero], like, ".d", axis)]
    if bias is not None and unit.bias is not None:
        nodes.append(rewriter.writer.node("DequantizeLinear", list(bias), unit.bias, ".d", {"axis": 0}))
        nodes[-1].outputs[0].shape = bias[0].shape
    rewriter.graph.insert_before(unit.node, nodes)
    return nodes[0].outputs[0], nodes[1].outputs[0] if bias is not None else None
