"""Dynamic int8: activations quantized at run time from their own min and max, weights int8 per channel.

    q, s, z = DynamicQuantizeLinear(x)      y = Cast(MatMulInteger(q, W_q, z)) * (s * s_w) + b

ONNX Runtime makes one kernel of these nodes (DynamicQuantizeMatMul), or one per product when several share their
input, which is quantized once. Gemm's alpha and beta are folded into weight and bias. Scope: sites of the main graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit, array_of
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import DynamicInt8, Site
from lwc.passes.edit import opset, redirect
from lwc.passes.precision.formats import find_units
from lwc.passes.precision.integers import Writer
from lwc.passes.precision.weights import Weights

DYNAMIC_OPSET = 11


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Applies DynamicInt8 at the plan's sites: MatMul and Gemm with a constant weight."""

    name: ClassVar[str] = "quantize_dynamic"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen = dict(ctx.plan.sites(DynamicInt8))
        if not chosen:
            return Outcome()
        if opset(model) < DYNAMIC_OPSET:
            raise UnsupportedOpset(
                f"The model has opset {opset(model)}; dynamic int8 needs {DYNAMIC_OPSET}.", "Raise it first."
            )
        units, refused = find_units(model.graph, chosen)
        by_name = {site.name: site for site in chosen}
        rewriter = _Rewriter(model, ctx.target.reduce_range)
        changed: list[Site] = []
        for node, unit in units.items():
            site = by_name[node.name or ""]
            reason = _refusal(unit)
            if reason:
                refused[site] = reason
            else:
                rewriter.rewrite(unit, chosen[site].weight_range)
                changed.append(site)
        return Outcome(tuple(changed), tuple(Skip(site, reason) for site, reason in refused.items()))


def _refusal(unit: Unit) -> str:
    if unit.weight is None or unit.node.op_type not in ("MatMul", "Gemm"):
        return "only products by a constant weight have a fast dynamic kernel"
    if unit.node.attributes.get_int("transA", 0):
        return "its activation is transposed"
    return ""


class _Rewriter:
    def __init__(self, model: ir.Model, reduce_range: bool) -> None:
        self._graph = model.graph
        self._writer = Writer(model)
        self._weights = Weights(self._writer, reduce_range)
        self._quantized: dict[ir.Value, ir.Node] = {}

    def rewrite(self, unit: Unit, method: str) -> None:
        """Replace the unit's node, and its bias Add; a Relu behind it stays."""
        node, writer = unit.node, self._writer
        unit = unit.without_activation()
        x = node.inputs[0]
        assert x is not None
        codes, step, zero = self._quantize(x).outputs
        weight = self._weights.weight(unit, method, transposed=unit.node.op_type == "Gemm" and unit.axis == 0)
        product = writer.node("MatMulInteger", [codes, weight.codes, zero, weight.zero], unit.output, ".integer")
        product.name = node.name
        product.outputs[0].type = ir.TensorType(ir.DataType.INT32)
        cast = writer.node("Cast", [product.outputs[0]], unit.output, ".cast", {"to": ir.DataType.FLOAT})
        scale = writer.node("Mul", [step, weight.scale], unit.output, ".scale")
        scale.outputs[0].shape = None
        nodes = [product, cast, scale, writer.node("Mul", [cast.outputs[0], scale.outputs[0]], unit.output, ".scaled")]
        if unit.bias is not None:
            nodes.append(writer.node("Add", [nodes[-1].outputs[0], self._bias(unit)], unit.output, ".sum"))
        for part in nodes[1:]:
            part.metadata_props[SITE_KEY] = node.name or ""
        last = unit.tail[-1] if unit.tail else node
        self._graph.insert_after(last, nodes)
        name, result = unit.output.name, nodes[-1].outputs[0]
        redirect(unit.output, result)
        orphans = [value for value in (*node.inputs[1:], unit.bias) if value is not None]
        for gone in (*reversed(unit.tail), node):
            self._graph.remove(gone, safe=True)
        result.name = name
        for value in dict.fromkeys(orphans):
            if not value.uses() and not value.is_graph_output():
                self._graph.initializers.pop(value.name or "", None)

    def _quantize(self, x: ir.Value) -> ir.Node:
        if x not in self._quantized:
            names = [self._writer.names.claim(f"{x.name}.{part}") for part in ("codes", "step", "zero")]
            node = ir.node("DynamicQuantizeLinear", [x], num_outputs=3, name=names[0])
            types = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
            for output, name, dtype in zip(node.outputs, names, types, strict=True):
                output.name, output.type = name, ir.TensorType(dtype)
            node.outputs[0].shape = x.shape
            producer = x.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], node)
            else:
                self._graph.insert_after(producer, node)
            self._quantized[x] = node
        return self._quantized[x]

    def _bias(self, unit: Unit) -> ir.Value:
        assert unit.bias is not None
        beta = unit.factors[1]
        if beta == 1.0:
            return unit.bias
        return self._writer.constant(f"{unit.bias.name}.scaled", array_of(unit.bias) * np.float32(beta))
