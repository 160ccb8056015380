"""MatMul by a weight plus a constant bias, as a Gemm on [positions, in]: its integer kernel adds the bias for nothing.

ONNX Runtime (1.31) makes a float Gemm of MatMul and Add when the bias is float, quantized or not; of a Gemm with an
int32 bias it makes QGemm. Where more than one dimension is unknown the product stays a MatMul and the bias an Add.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit
from lwc.passes.precision.integers import Codes
from lwc.passes.precision.lowered import Lowered, input_of, insert, result, weight_and_bias, with_weight

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter


def lower_matmul(rewriter: Rewriter, unit: Unit) -> Lowered:
    before, after = input_of(unit), unit.tail[0].outputs[0] if unit.bias is not None else unit.node.outputs[0]
    shape = _one_unknown(after)
    if unit.bias is None or shape is None or before.shape is None:
        return _as_it_is(rewriter, unit)
    codes, node = rewriter.codes(before), unit.node
    rows = codes.value if len(shape) == 2 else _reshaped(rewriter, node, codes.value, [-1, before.shape[-1]], before)
    weight, bias = weight_and_bias(rewriter, unit, codes.scale.step)
    factors = [rewriter.dequantized(Codes(rows, codes.scale), rows, node), weight, bias]
    product = insert(rewriter, node, rewriter.writer.node("Gemm", factors, after, ".product"), name=node.name)
    if len(shape) == 2:
        return result(rewriter, unit, product, kept=False)
    product.shape = None
    if node not in rewriter.formats.emitting:
        return Lowered(_reshaped(rewriter, node, product, shape, after), kept=False)
    scale = rewriter.output_scale(unit)
    integers = insert(rewriter, node, rewriter.writer.quantize(product, scale, product))
    return Lowered(product, codes=Codes(_reshaped(rewriter, node, integers, shape, after), scale), kept=False)


def _as_it_is(rewriter: Rewriter, unit: Unit) -> Lowered:
    lowered = with_weight(rewriter, replace(unit, bias=None))
    if unit.bias is None:
        return lowered
    rewriter.keep(unit.tail[0])
    return replace(lowered, value=unit.tail[0].outputs[0])


def _reshaped(
    rewriter: Rewriter, before: ir.Node, value: ir.Value, shape: list[int | ir.SymbolicDim], like: ir.Value
) -> ir.Value:
    target = rewriter.writer.constant(f"{like.name}.shape", np.array(shape, np.int64))
    node = rewriter.writer.node("Reshape", [value, target], like, ".reshaped")
    node.metadata_props[SITE_KEY] = before.name or ""
    reshaped = insert(rewriter, before, node, value.type)
    if shape[0] == -1 and len(shape) == 2:
        reshaped.shape = None
    return reshaped


def _one_unknown(value: ir.Value) -> list[int | ir.SymbolicDim] | None:
    """The shape with -1 for the one dimension that is not known; None when more are not."""
    if value.shape is None:
        return None
    dims: list[int | ir.SymbolicDim] = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return dims if dims.count(-1) <= 1 and 0 not in dims else None
