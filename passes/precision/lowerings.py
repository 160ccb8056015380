"""How each operator is written so that an integer kernel takes it.

Conv, Gemm, Add, Mul, Concat ...   themselves, with DequantizeLinear on every input
MatMul + constant bias             Gemm on [positions, in] when at most one dimension is unknown, for the int32 bias
Concat of equal scales             Concat of the codes
AveragePool                        depthwise Conv by 1 / area, ten times faster in ONNX Runtime (1.31)
HardSigmoid(x; a, b)               a clip(x + b/a, 0, 1/a): an Add whose range clips, read with a times the scale
HardSwish(x)                       x * HardSigmoid(x; 1/6, 1/2)
Tanh(x)                            2 sigmoid(2 x) - 1: Sigmoid of x read with twice the scale; its codes read as
                                   2/256 (q - 128)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.units import Unit
from lwc.compiler.core.plan import Range
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


def lower(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Write a unit in front of its node."""
    op = unit.node.op_type
    if op == "MatMul" and unit.weight is not None:
        return _matmul(rewriter, unit)
    if op in ("Conv", "Gemm"):
        return _with_weight(rewriter, unit)
    if op == "HardSigmoid":
        alpha, beta = unit.node.attributes.get_float("alpha", 0.2), unit.node.attributes.get_float("beta", 0.5)
        return _hard_sigmoid(rewriter, unit, alpha, beta)
    if op == "HardSwish":
        return _hard_swish(rewriter, unit)
    if op == "Tanh":
        return _tanh(rewriter, unit)
    if op == "AveragePool" and _averages_whole_windows(unit.node):
        return _average(rewriter, unit)
    return _concat(rewriter, unit) if op == "Concat" else _as_it_is(rewriter, unit)


def _result(rewriter: Rewriter, unit: Unit, value: ir.Value, kept: bool) -> Lowered:
    if unit.node not in rewriter.formats.emitting:
        return Lowered(value, kept=kept)
    scale = rewriter.output_scale(unit)
    return Lowered(value, scale, scale, kept=kept)


def _as_it_is(rewriter: Rewriter, unit: Unit) -> Lowered:
    node = unit.node
    for index in (*unit.inputs, *unit.constants):
        value = node.inputs[index]
        assert value is not None
        codes = rewriter.codes(value) if index in unit.inputs else rewriter.constant_codes(value)
        node.replace_input_with(index, rewriter.dequantized(codes, value, node))
    return _result(rewriter, unit, node.outputs[0], kept=True)


def _concat(rewriter: Rewriter, unit: Unit) -> Lowered:
    scale = rewriter.output_scale(unit)
    inputs = [rewriter.codes(value) for value in _inputs(unit, unit.inputs)]
    if any(codes.scale != scale for codes in inputs):
        return _as_it_is(rewriter, unit)
    for index, codes in zip(unit.inputs, inputs, strict=True):
        unit.node.replace_input_with(index, codes.value)
    for index, value in zip(unit.constants, _inputs(unit, unit.constants), strict=True):
        unit.node.replace_input_with(index, rewriter.constant_codes(value, scale).value)
    node = unit.node
    out = rewriter.writer.node("Concat", list(node.inputs), unit.output, ".codes", {"axis": node.attributes["axis"]})
    out.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(scale.dtype))
    out.name = node.name
    rewriter.graph.insert_before(node, out)
    return Lowered(out.outputs[0], codes=Codes(out.outputs[0], scale), kept=False)


def _inputs(unit: Unit, indices: tuple[int, ...]) -> list[ir.Value]:
    return [value for index in indices if (value := unit.node.inputs[index]) is not None]


def _with_weight(rewriter: Rewriter, unit: Unit) -> Lowered:
    node = unit.node
    value = node.inputs[0]
    assert value is not None
    codes = rewriter.codes(value)
    weight, bias = _weight_and_bias(rewriter, unit, codes.scale.step)
    node.replace_input_with(0, rewriter.dequantized(codes, value, node))
    node.replace_input_with(1, weight)
    if bias is not None:
        node.replace_input_with(2, bias)
    for factor in ("alpha", "beta"):
        node.attributes.pop(factor, None)
    return _result(rewriter, unit, node.outputs[0], kept=True)


def _weight_and_bias(rewriter: Rewriter, unit: Unit, step: float) -> tuple[ir.Value, ir.Value | None]:
    """Float views of the unit's int8 weight and int32 bias."""
    method = rewriter.methods[unit.node.name or ""]
    weight, bias = rewriter.weights.weight_and_bias(unit, method, step)
    like = unit.node.inputs[1]
    assert like is not None
    axis = {} if weight.axis is None else {"axis": weight.axis}
    nodes = [rewriter.writer.node("DequantizeLinear", [weight.codes, weight.scale, weight.zero], like, ".d", axis)]
    if bias is not None and unit.bias is not None:
        nodes.append(rewriter.writer.node("DequantizeLinear", list(bias), unit.bias, ".d", {"axis": 0}))
        nodes[-1].outputs[0].shape = bias[0].shape
    rewriter.graph.insert_before(unit.node, nodes)
    return nodes[0].outputs[0], nodes[1].outputs[0] if bias is not None else None


def _matmul(rewriter: Rewriter, unit: Unit) -> Lowered:
    """MatMul by a weight; its bias goes into a Gemm, whose integer kernel adds it for nothing."""
    before, after = unit.node.inputs[0], unit.tail[0].outputs[0] if unit.bias is not None else None
    target = None if after is None else _one_unknown(after)
    if after is None or before is None or before.shape is None or target is None:
        return _matmul_as_it_is(rewriter, unit)
    codes = rewriter.codes(before)
    writer, node = rewriter.writer, unit.node
    flat, rank = codes.value, len(before.shape)
    if rank != 2:
        inner = writer.constant(f"{before.name}.rows", np.array([-1, before.shape[-1]], np.int64))
        flat = _insert(rewriter, node, writer.node("Reshape", [codes.value, inner], before, ".rows"), codes.value.type)
        flat.shape = None
    weight, bias = _weight_and_bias(rewriter, unit, codes.scale.step)
    rows = rewriter.dequantized(Codes(flat, codes.scale), flat, node)
    gemm = writer.node("Gemm", [rows, weight, bias], after, ".product")
    gemm.name = node.name
    result = _insert(rewriter, node, gemm)
    if rank == 2:
        return _result(rewriter, unit, result, kept=False)
    result.shape = None
    shape = writer.constant(f"{after.name}.shape", np.array(target, np.int64))
    if node not in rewriter.formats.emitting:
        whole = _insert(rewriter, node, writer.node("Reshape", [result, shape], after, ".whole"))
        return Lowered(whole, kept=False)
    scale = rewriter.output_scale(unit)
    integers = writer.quantize(result, scale, result)
    type_ = integers.outputs[0].type
    _insert(rewriter, node, integers, type_)
    whole = _insert(rewriter, node, writer.node("Reshape", [integers.outputs[0], shape], after, ".codes"), type_)
    return Lowered(result, codes=Codes(whole, scale), kept=False)


def _matmul_as_it_is(rewriter: Rewriter, unit: Unit) -> Lowered:
    """Without a bias, or with one that stays a float Add because the shape is not known."""
    lowered = _with_weight(rewriter, replace(unit, bias=None))
    if unit.bias is None:
        return lowered
    add = unit.tail[0]
    rewriter.keep(add)
    return replace(lowered, value=add.outputs[0])


def _one_unknown(value: ir.Value) -> list[int] | None:
    """The shape with -1 for the one dimension that is not known; None when more are not."""
    if value.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return dims if dims.count(-1) <= 1 and 0 not in dims else None


def _insert(rewriter: Rewriter, before: ir.Node, node: ir.Node, type_: ir.TypeProtocol | None = None) -> ir.Value:
    rewriter.graph.insert_before(before, node)
    if type_ is not None:
        node.outputs[0].type = type_
    return node.outputs[0]


def _averages_whole_windows(node: ir.Node) -> bool:
    value, attributes = node.inputs[0], node.attributes
    pads = attributes.get_ints("pads", ())
    counted = not any(pads) or attributes.get_int("count_include_pad", 0) == 1
    whole = attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return value is not None and _channels(value) is not None and counted and whole and "dilations" not in attributes


def _channels(value: ir.Value) -> int | None:
    channels = value.shape[1] if value.shape is not None and len(value.shape) > 2 else None
    return channels if isinstance(channels, int) else None


def _average(rewriter: Rewriter, unit: Unit) -> Lowered:
    node, writer = unit.node, rewriter.writer
    value = node.inputs[0]
    assert value is not None
    channels, kernel = _channels(value) or 0, node.attributes.get_ints("kernel_shape", ())
    codes = rewriter.codes(value)
    name = f"{node.name}.window"
    ones = writer.constant(name, np.full((channels, 1, *kernel), 64, np.int8))
    step = np.full(channels, 1.0 / (64 * np.prod(kernel)), np.float32)
    scale = writer.constant(f"{name}.scale", step)
    zero = writer.constant(f"{name}.zero_point", np.zeros(channels, np.int8))
    window = _insert(rewriter, node, writer.node("DequantizeLinear", [ones, scale, zero], ones, ".d", {"axis": 0}))
    kept = {
        key: node.attributes[key] for key in ("kernel_shape", "pads", "strides", "auto_pad") if key in node.attributes
    }
    image = rewriter.dequantized(codes, value, node)
    conv = writer.node("Conv", [image, window], node.outputs[0], ".mean", {**kept, "group": channels})
    conv.name = node.name
    return _result(rewriter, unit, _insert(rewriter, node, conv), kept=False)


def _hard_sigmoid(rewriter: Rewriter, unit: Unit, alpha: float, beta: float) -> Lowered:
    """s (q - z) with s = 1 / (a levels) clips at 0 and 1/a; the same codes with s = 1 / levels are the result."""
    value = unit.node.inputs[0]
    assert value is not None
    result = _add_constant(rewriter, unit, value, beta / alpha, unit.node.name or "")
    dtype = np.dtype(np.int8 if rewriter.symmetric else np.uint8)
    zero = int(np.iinfo(dtype).min)
    write, read = float(np.float32(1 / (255 * alpha))), float(np.float32(1 / 255))
    return Lowered(result, Scale(write, zero, dtype), Scale(read, zero, dtype), kept=False)


def _add_constant(rewriter: Rewriter, unit: Unit, value: ir.Value, number: float, name: str) -> ir.Value:
    node, writer = unit.node, rewriter.writer
    scale = Scale.of(Range(number, number), rewriter.symmetric, one_sided=False)
    codes = Codes(writer.constant(f"{node.name}.shift", scale.codes(np.float32(number))), scale)
    shift = rewriter.dequantized(codes, codes.value, node)
    add = writer.node(
        "Add", [rewriter.dequantized(rewriter.codes(value), value, node), shift], node.outputs[0], ".gate"
    )
    add.name = name
    return _insert(rewriter, node, add)


def _hard_swish(rewriter: Rewriter, unit: Unit) -> Lowered:
    node, writer = unit.node, rewriter.writer
    value = node.inputs[0]
    assert value is not None
    sum_ = _add_constant(rewriter, unit, value, 3.0, f"{node.name}.gate")
    dtype = np.dtype(np.int8 if rewriter.symmetric else np.uint8)
    zero = int(np.iinfo(dtype).min)
    write, read = Scale(float(np.float32(6 / 255)), zero, dtype), Scale(float(np.float32(1 / 255)), zero, dtype)
    quantized = writer.quantize(sum_, write, sum_)
    gate = Codes(_insert(rewriter, node, quantized, quantized.outputs[0].type), read)
    factors = [rewriter.dequantized(rewriter.codes(value), value, node), rewriter.dequantized(gate, sum_, node)]
    product = writer.node("Mul", list(factors), node.outputs[0], ".product")
    product.name = node.name
    return _result(rewriter, unit, _insert(rewriter, node, product), kept=False)


def _tanh(rewriter: Rewriter, unit: Unit) -> Lowered:
    node, writer = unit.node, rewriter.writer
    value = node.inputs[0]
    assert value is not None
    codes = rewriter.codes(value)
    twice = replace(codes.scale, step=float(np.float32(2 * codes.scale.step)))
    sigmoid = writer.node(
        "Sigmoid", [rewriter.dequantized(Codes(codes.value, twice), value, node)], node.outputs[0], ".sigmoid"
    )
    sigmoid.name = node.name
    low = int(np.iinfo(codes.scale.dtype).min)
    write, read = Scale(1 / 256, low, codes.scale.dtype), Scale(2 / 256, low + 128, codes.scale.dtype)
    return Lowered(_insert(rewriter, node, sigmoid), write, read, kept=False)
