"""How each operator is written so that an integer kernel takes it: most as they are, between Q and DQ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit
from lwc.passes.precision.as_convolution import (
    averages_whole_windows,
    is_stem,
    lower_average,
    lower_batch_norm,
    lower_stem,
)
from lwc.passes.precision.as_gemm import lower_matmul
from lwc.passes.precision.as_sum import lower_hard_sigmoid, lower_hard_swish, lower_tanh
from lwc.passes.precision.integers import Codes
from lwc.passes.precision.lowered import Lowered, input_of, insert, result, with_weight

if TYPE_CHECKING:
    from lwc.passes.precision.rewrite import Rewriter


def lower(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Write a unit where its node is."""
    lowering = _LOWERINGS.get(unit.node.op_type, _as_it_is)
    if rewriter.is_wide(unit):
        lowering = _WIDE.get(unit.node.op_type, lowering)
    return lowering(rewriter, unit)


def _as_it_is(rewriter: Rewriter, unit: Unit) -> Lowered:
    node = unit.node
    for index in (*unit.inputs, *unit.constants):
        value = input_of(unit, index)
        codes = rewriter.codes(value) if index in unit.inputs else rewriter.constant_codes(value)
        node.replace_input_with(index, rewriter.dequantized(codes, value, node))
    return result(rewriter, unit, node.outputs[0], kept=True)


def _conv(rewriter: Rewriter, unit: Unit) -> Lowered:
    in_blocks = "SpaceToDepth" in rewriter.byte_ops and is_stem(unit.node)
    return (lower_stem if in_blocks else with_weight)(rewriter, unit)


def _sum(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Sum of two is Add."""
    unit.node.op_type = "Add"
    return _as_it_is(rewriter, unit)


def _average(rewriter: Rewriter, unit: Unit) -> Lowered:
    return (lower_average if averages_whole_windows(unit.node) else _as_it_is)(rewriter, unit)


def _matmul(rewriter: Rewriter, unit: Unit) -> Lowered:
    return (_as_it_is if unit.weight is None else lower_matmul)(rewriter, unit)


def _concat(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Of codes when all have the scale of the output, else one kernel that rescales."""
    scale, node = rewriter.output_scale(unit), unit.node
    inputs = {index: rewriter.codes(input_of(unit, index)) for index in unit.inputs}
    if any(codes.scale != scale for codes in inputs.values()):
        return _as_it_is(rewriter, unit)
    inputs.update({index: rewriter.constant_codes(input_of(unit, index), scale) for index in unit.constants})
    values: list[ir.Value | None] = [inputs[index].value for index in range(len(node.inputs))]
    joined = rewriter.writer.node("Concat", values, unit.output, ".codes", {"axis": node.attributes["axis"]})
    codes = insert(rewriter, node, joined, ir.TensorType(ir.DataType.from_numpy(scale.dtype)), node.name)
    return Lowered(codes, codes=Codes(codes, scale), kept=False)


_Lowering = Callable[["Rewriter", Unit], Lowered]

_LOWERINGS: Mapping[str, _Lowering] = {
    "Conv": _conv,
    "Gemm": with_weight,
    "MatMul": _matmul,
    "Sum": _sum,
    "Concat": _concat,
    "AveragePool": _average,
    "BatchNormalization": lower_batch_norm,
    "HardSigmoid": lower_hard_sigmoid,
    "HardSwish": lower_hard_swish,
    "Tanh": lower_tanh,
}

# Instead of those that are made for 8-bit kernels.
_WIDE: Mapping[str, _Lowering] = {
    "Conv": with_weight,
    "HardSigmoid": _as_it_is,
    "HardSwish": _as_it_is,
    "Tanh": _as_it_is,
}
