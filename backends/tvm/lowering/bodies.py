"""Operators that ONNX defines without a body, or not at all, as functions of those it defines, in ONNX's own text.

The importer expands them as it expands ONNX's functions. An input that the call leaves out is absent in the body too.
Sources: ONNX's operator pages, and ONNX Runtime's ContribOperators.md for the domain com.microsoft.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import onnx.parser

from lwc.backends.tvm.lowering import attention_bodies
from lwc.backends.tvm.lowering.body_text import Call, function

Body = Callable[[Call], str]

CONV = ", ".join(f"{n} = @{n}" for n in ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"))
CONV_INPUTS = "x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b"


def _qlinear_conv(call: Call) -> str:
    bias = "bs = Mul (x_scale, w_scale)\n bf = DequantizeLinear <axis = 0> (b, bs)" if call.has(8) else ""
    return function(
        CONV_INPUTS, "y", f"""
        xf = DequantizeLinear (x, x_scale, x_zero_point)
        wf = DequantizeLinear <axis = 0> (w, w_scale, w_zero_point)
        {bias}
        yf = Conv <{CONV}> (xf, wf{", bf" if call.has(8) else ""})
        y = QuantizeLinear (yf, y_scale, y_zero_point)""",
    )  # fmt: skip


def _qlinear_matmul(call: Call) -> str:
    return function(
        "a, as, az, b, bs, bz, ys, yz", "y", """
        as32 = Cast <to = 1> (as)
        bs32 = Cast <to = 1> (bs)
        ys32 = Cast <to = 1> (ys)
        af = DequantizeLinear <axis = -2> (a, as32, az)
        bf = DequantizeLinear <axis = -1> (b, bs32, bz)
        yf = MatMul (af, bf)
        y = QuantizeLinear (yf, ys32, yz)""",
    )  # fmt: skip


def _conv_integer(call: Call) -> str:
    column = ", ".join(["-1", *(["1"] * (call.rank(0) - 1))])
    x = "xz = Cast <to = 6> (x_zero)\n xo = Sub (xi, xz)" if call.has(2) else "xo = Identity (xi)"
    w = "wo = Identity (wi)"
    if call.has(3):
        w = f"""wz = Cast <to = 6> (w_zero)
        column = Constant <value_ints = [{column}]> ()
        wc = Reshape (wz, column)
        wo = Sub (wi, wc)"""
    return function(
        "x, w, x_zero, w_zero", "y", f"""
        xi = Cast <to = 6> (x)
        wi = Cast <to = 6> (w)
        {x}
        {w}
        y = Conv <{CONV}> (xo, wo)""",
    )  # fmt: skip


def _dynamic_quantize_matmul(call: Call) -> str:
    return function(
        "a, b, b_scale, b_zero, bias", "y", f"""
        aq, a_scale, a_zero = DynamicQuantizeLinear (a)
        sums = MatMulInteger (aq, b, a_zero, b_zero)
        scale = Mul (a_scale, b_scale)
        {_scaled(call.has(4))}""",
    )  # fmt: skip


def _matmul_integer_to_float(call: Call) -> str:
    return function(
        "a, b, a_scale, b_scale, a_zero, b_zero, bias", "y", f"""
        sums = MatMulInteger (a, b, a_zero, b_zero)
        scale = Mul (a_scale, b_scale)
        {_scaled(call.has(6))}""",
    )  # fmt: skip


def _scaled(has_bias: bool) -> str:
    last = "product = Mul (numbers, scale)\n y = Add (product, bias)" if has_bias else "y = Mul (numbers, scale)"
    return f"numbers = Cast <to = 1> (sums)\n {last}"


def _qgemm(call: Call) -> str:
    turned = [f"{n}t = {'Transpose' if call.flag(f'trans{n.upper()}') else 'Identity'} ({n})" for n in ("a", "b")]
    last = "y = QuantizeLinear (yf, ys, yz)" if call.has(7) else "y = Identity (yf)"
    return function(
        "a, as, az, b, bs, bz, c, ys, yz", "y", f"""
        {turned[0]}
        {turned[1]}
        sums = MatMulInteger (at, bt, az, bz)
        {"total = Add (sums, c)" if call.has(6) else "total = Identity (sums)"}
        numbers = Cast <to = 1> (total)
        alpha = Constant <value_float = {call.number("alpha", 1.0)}> ()
        both = Mul (as, bs)
        scale = Mul (both, alpha)
        yf = Mul (numbers, scale)
        {last}""",
    )  # fmt: skip


def _of_two(op: str) -> Body:
    return lambda call: function(
        "a, as, az, b, bs, bz, cs, cz", "c", f"""
        af = DequantizeLinear (a, as, az)
        bf = DequantizeLinear (b, bs, bz)
        cf = {op} (af, bf)
        c = QuantizeLinear (cf, cs, cz)""",
    )  # fmt: skip


def _of_one(op: str) -> Body:
    """op: with its attributes"""
    return lambda call: function(
        "x, xs, xz, ys, yz", "y", f"""
        xf = DequantizeLinear (x, xs, xz)
        yf = {op} (xf)
        y = QuantizeLinear (yf, ys, yz)""",
    )  # fmt: skip


def _first_channel_last(body: Body) -> Body:
    def checked(call: Call) -> str:
        if call.flag("channels_last"):
            raise NotImplementedError("channels come last.")
        return body(call)

    return checked


def _qlinear_concat(call: Call) -> str:
    parts = range(0, call.count - 2, 3)
    names = ", ".join(f"x{k}, s{k}, z{k}" for k in parts)
    steps = "\n".join(f"f{k} = DequantizeLinear (x{k}, s{k}, z{k})" for k in parts)
    return function(
        f"ys, yz, {names}", "y", f"""
        {steps}
        yf = Concat <axis = @axis> ({", ".join(f"f{k}" for k in parts)})
        y = QuantizeLinear (yf, ys, yz)""",
    )  # fmt: skip


def _qlinear_where(call: Call) -> str:
    return function(
        "condition, x, xs, xz, y, ys, yz, zs, zz", "z", """
        xf = DequantizeLinear (x, xs, xz)
        yf = DequantizeLinear (y, ys, yz)
        zf = Where (condition, xf, yf)
        z = QuantizeLinear (zf, zs, zz)""",
    )  # fmt: skip


def _fused_matmul(call: Call) -> str:
    if call.flag("transBatchA") or call.flag("transBatchB"):
        raise NotImplementedError("it moves the batch dimension.")
    turns = [f"{n}t = {_turned(call, k, n)}" for k, n in enumerate("ab")]
    return function(
        "a, b", "y", f"""
        {turns[0]}
        {turns[1]}
        product = MatMul (at, bt)
        one = Constant <value_float = {call.number("alpha", 1.0)}> ()
        alpha = CastLike (one, product)
        y = Mul (product, alpha)""",
    )  # fmt: skip


def _turned(call: Call, index: int, name: str) -> str:
    rank = call.rank(index)
    if not call.flag(f"trans{name.upper()}") or rank < 2:
        return f"Identity ({name})"
    order = [*range(rank - 2), rank - 1, rank - 2]
    return f"Transpose <perm = {order}> ({name})"


def _fused_conv(call: Call) -> str:
    return function(
        "x, w, b, z", "y", f"""
        c = Conv <{CONV}> (x, w, b)
        {"s = Add (c, z)" if call.has(3) else "s = Identity (c)"}
        {_activated(call, call.numbers("activation_params"))}""",
    )  # fmt: skip


def _fused_gemm(call: Call) -> str:
    return function(
        "a, b, c", "y", f"""
        s = Gemm <alpha = @alpha, beta = @beta, transA = @transA, transB = @transB> (a, b, c)
        {_activated(call, [call.number("activation_alpha", 0.01), call.number("activation_beta", 0.0)])}""",
    )  # fmt: skip


def _activated(call: Call, given: Sequence[float]) -> str:
    """The step from s to y. given: the activation's parameters"""
    name = call.text("activation", "Identity")
    if name == "Clip" and len(given) == 2:
        bounds = [f"{n} = Constant <value_float = {bound}> ()" for n, bound in zip(("lo", "hi"), given, strict=True)]
        return "\n".join([*bounds, "y = Clip (s, lo, hi)"])
    if name in ("LeakyRelu", "Elu", "ThresholdedRelu") and given:
        return f"y = {name} <alpha = {given[0]}> (s)"
    if name == "HardSigmoid" and len(given) == 2:
        return f"y = HardSigmoid <alpha = {given[0]}, beta = {given[1]}> (s)"
    return f"y = {name} (s)"


def _skip_layer_norm(call: Call) -> str:
    return _skip_norm(call, "input, skip, gamma, beta, bias", 4, "LayerNormalization", "sum, gamma, beta")


def _skip_rms_norm(call: Call) -> str:
    return _skip_norm(call, "input, skip, gamma, bias", 3, "RMSNormalization", "sum, gamma")


def _skip_norm(call: Call, inputs: str, bias: int, op: str, given: str) -> str:
    if call.wants(1) or call.wants(2):
        raise NotImplementedError("its mean and deviation are read.")
    return function(
        inputs, "y, mean, deviation, sum", f"""
        both = Add (input, skip)
        {"sum = Add (both, bias)" if call.has(bias) else "sum = Identity (both)"}
        y = {op} <axis = -1, epsilon = {call.number("epsilon", 1e-12 if op[0] == "L" else 1e-6)}> ({given})""",
    )  # fmt: skip


def _rms_norm(call: Call) -> str:
    return function(
        "x, scale", "y", "y = RMSNormalization <axis = @axis, epsilon = @epsilon, stash_type = @stash_type> (x, scale)"
    )


def _quick_gelu(call: Call) -> str:
    return function(
        "x", "y", f"""
        factor = Constant <value_float = {call.number("alpha", 1.702)}> ()
        alpha = CastLike (factor, x)
        scaled = Mul (x, alpha)
        gate = Sigmoid (scaled)
        y = Mul (x, gate)""",
    )  # fmt: skip


def _gelu(call: Call) -> str:
    return function("x", "y", "y = Gelu (x)")


_POOL = "auto_pad = @auto_pad, ceil_mode = @ceil_mode, kernel_shape = @kernel_shape, pads = @pads, strides = @strides"
_MICROSOFT: Mapping[str, Body] = {
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "QGemm": _qgemm,
    "QLinearAdd": _of_two("Add"),
    "QLinearAveragePool": _first_channel_last(
        _of_one(f"AveragePool <count_include_pad = @count_include_pad, {_POOL}>")
    ),
    "QLinearConcat": _qlinear_concat,
    "QLinearGlobalAveragePool": _first_channel_last(_of_one("GlobalAveragePool")),
    "QLinearLeakyRelu": _of_one("LeakyRelu <alpha = @alpha>"),
    "QLinearMul": _of_two("Mul"),
    "QLinearSigmoid": _of_one("Sigmoid"),
    "QLinearSoftmax": _of_one("Softmax <axis = @axis>"),
    "QLinearWhere": _qlinear_where,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_rms_norm,
    **attention_bodies.BODIES,
}
BODIES: Mapping[tuple[str, str], Body] = {
    ("", "ConvInteger"): _conv_integer,
    ("", "QLinearConv"): _qlinear_conv,
    ("", "QLinearMatMul"): _qlinear_matmul,
    ("", "SimplifiedLayerNormalization"): _rms_norm,
    ("com.microsoft", "SimplifiedLayerNormalization"): _rms_norm,
    **{("com.microsoft", name): body for name, body in _MICROSOFT.items()},
}


def body_of(node: onnx.NodeProto, inputs: Sequence[Any]) -> onnx.FunctionProto | None:
    """The function that stands for the node; None where none is written here.

    Raises NotImplementedError for a form of the operator that is not covered.
    """
    body = BODIES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
    return None if body is None else onnx.parser.parse_function(body(Call(node, inputs)))
