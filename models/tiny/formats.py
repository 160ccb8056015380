"""Number formats, shapes at the edge, opset versions and other domains."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from lwc.models.tiny.text import Builder, graph

# fmt: off

_NUMBERS: Mapping[str, Builder] = {
    "int4_weight": graph("""(float[N,8] x) => (float[N,6] y) <int4[8,6] w, float[6] scale, int4[6] zero>
        { f = DequantizeLinear <axis = 1> (w, scale, zero) y = MatMul(x, f) }""", 21),
    "uint4_weight_in_blocks": graph("""(float[N,8] x) => (float[N,6] y) <uint4[8,6] w, float[2,6] scale>
        { f = DequantizeLinear <axis = 0, block_size = 4> (w, scale) y = MatMul(x, f) }""", 21),
    "int8_weight": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <int8[4,3,3,3] w, float[4] scale, int8[4] zero = {0,0,0,0}>
        { f = DequantizeLinear <axis = 0> (w, scale, zero) y = Conv(x, f) }"""),
    "bfloat16_weight": graph("""(float[N,8] x) => (float[N,6] y) <bfloat16[8,6] w>
        { f = Cast <to = 1> (w) y = MatMul(x, f) }"""),
    "float16_weight": graph("""(float[N,8] x) => (float[N,6] y) <float16[8,6] w>
        { f = Cast <to = 1> (w) y = MatMul(x, f) }"""),
    "float8_weight": graph("""(float[N,8] x) => (float[N,6] y) <float8e4m3fn[8,6] w, float scale = {0.5}>
        { f = DequantizeLinear(w, scale) y = MatMul(x, f) }""", 19),
    "float8_e5m2_cast": graph("""(float[N,8] x) => (float[N,6] y) <float8e5m2[8,6] w>
        { f = Cast <to = 1> (w) y = MatMul(x, f) }""", 19),
    "float16": graph("""(float16[N,8] x) => (float16[N,6] y) <float16[6,8] w, float16[6] b>
        { g = Gemm <transB = 1> (x, w, b) y = Relu(g) }"""),
    "bfloat16": graph("""(float[N,8] x) => (float[N,6] y) <bfloat16[8,6] w>
        { h = Cast <to = 16> (x) m = MatMul(h, w) y = Cast <to = 1> (m) }"""),
    "double": graph("""(double[N,8] x) => (double[N,6] y) <double[8,6] w, double[6] b>
        { m = MatMul(x, w) y = Add(m, b) }"""),
    "integer_arithmetic": graph("""(int64[N,4] x) => (int64[N,4] y)
        <int64[4] b = {3,-1,0,7}, int64 two = {2}, int64 seven = {7}>
        { a = Add(x, b) m = Mul(a, two) y = Mod(m, seven) }"""),
    "strings": graph("""(float[N] x) => (float[N] y, string[2] names)
        { names = Constant <value_strings = ["left", "right"]> () y = Relu(x) }"""),
    "conv_qdq": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float xs = {0.02}, uint8 xz = {128}, int8[4,3,3,3] w, float[4] ws = {0.01,0.02,0.01,0.005},
         int8[4] wz = {0,0,0,0}, int32[4] b = {10,-20,0,5}, float[4] bs = {0.0002,0.0004,0.0002,0.0001},
         int32[4] bz = {0,0,0,0}, float ys = {0.05}, uint8 yz = {100}>
        { xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz)
          wd = DequantizeLinear <axis = 0> (w, ws, wz) bd = DequantizeLinear <axis = 0> (b, bs, bz)
          c = Conv(xd, wd, bd) yq = QuantizeLinear(c, ys, yz) y = DequantizeLinear(yq, ys, yz) }"""),
    "conv_qlinear": graph("""(uint8[N,3,6,6] x) => (uint8[N,4,4,4] y)
        <float xs = {0.02}, uint8 xz = {128}, int8[4,3,3,3] w, float ws = {0.01}, int8 wz = {0},
         float ys = {0.05}, uint8 yz = {100}> { y = QLinearConv(x, xs, xz, w, ws, wz, ys, yz) }"""),
    "matmul_dynamic_int8": graph("""(float[N,8] x) => (float[N,6] y) <int8[8,6] w, float ws = {0.01}>
        { q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z) f = Cast <to = 1> (i)
          t = Mul(s, ws) y = Mul(f, t) }"""),
}

_SHAPES: Mapping[str, Builder] = {
    "scalars": graph("""(float x, float a) => (float y) <float b = {2.5}> { m = Mul(x, a) y = Add(m, b) }"""),
    "zero_size": graph("""(float[N,0,4] x) => (float[N,0,3] y, float[N,1,4] s)
        <float[4,3] w, int64[1] axis = {1}> { y = MatMul(x, w) s = ReduceSum(x, axis) }"""),
    "zero_size_concat": graph("""(float[N,4] x) => (float[N,4] y) <int64[1] zero = {0}, int64[1] axis = {1}>
        { s = Slice(x, zero, zero, axis) c = Concat <axis = 1> (x, s) y = Relu(c) }"""),
    "dynamic_image": graph("""(float[N,3,H,W] x) => (float[N,4,H,W] y) <float[4,3,3,3] w, float[4] b>
        { c = Conv <pads = [1,1,1,1]> (x, w, b) y = Relu(c) }"""),
    "unnamed_dimensions": graph("""(float[?,?,8] x) => (float[?,?,6] y) <float[8,6] w> { y = MatMul(x, w) }"""),
    "unknown_rank": graph("""(float[N,4] x, int64[1] axes) => (float[N,4] y)
        { z = Sub(axes, axes) u = Unsqueeze(x, z) r = Relu(u) y = Squeeze(r, z) }"""),
}

_VERSIONS: Mapping[str, Builder] = {
    "opset_7": graph("""(float[N,3,8,8] x) => (float[N,5] y)
        <float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var, float[5,36] w2, float[5] b2>
        { c = Conv(x, w) n = BatchNormalization(c, gamma, beta, mean, var) r = Relu(n)
          d = Dropout <ratio = 0.5> (r) p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (d)
          f = Flatten(p) y = Gemm <transB = 1> (f, w2, b2) }""", 7, weights_are_inputs=True),
    "opset_9": graph("""(float[N,3,4,4] x) => (float[N,3,8,8] y) <float[4] factors = {1.0,1.0,2.0,2.0}>
        { u = Upsample <mode = "nearest"> (x, factors) y = Clip <min = -0.5, max = 0.5> (u) }""", 9),
    "opset_11": graph("""(float[N,1,4,4] x) => (float[N,8,8] y)
        <float[0] roi, float[4] factors = {1.0,1.0,2.0,2.0}, float lo = {-0.5}>
        { r = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, roi, factors)
          c = Clip(r, lo) s = Squeeze <axes = [1]> (c) y = Softmax <axis = 2> (s) }""", 11),
    "opset_11_softmax_over_all": graph("""(float[N,2,3] x) => (float[N,2,3] y)
        { y = Softmax <axis = 1> (x) }""", 11),
    "opset_13": graph("""(float[N,6] x) => (float[N,1] y) <int64[1] a = {1}, int64[2] parts = {2,4}>
        { l, r = Split <axis = 1> (x, parts) s = ReduceSum(l, a) m = ReduceMax <axes = [1]> (r)
          y = Add(s, m) }""", 13),
    "opset_26": graph("""(float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w, float[4] b, int64[2] a = {2,3}>
        { c = Conv(x, w, b) g = Gelu(c) y = ReduceMean <keepdims = 0> (g, a) }""", 26),
    "opset_17_weights_are_inputs": graph("""(float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b>
        { i = Identity(w) m = MatMul(x, i) y = Add(m, b) }""", weights_are_inputs=True),
    "newest_opset": graph("(float[N,4] x) => (float[N,4] y) { a = Identity(x) y = Relu(a) }",
        onnx.defs.onnx_opset_version()),
}

_DOMAINS: Mapping[str, Builder] = {
    "microsoft_gelu": graph("""(float[N,8] x) => (float[N,8] y) <float[8,8] w>
        { m = MatMul(x, w) y = com.microsoft.Gelu(m) }""", domains=["com.microsoft"]),
    "microsoft_fused_matmul": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w>
        { y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (x, w) }""", domains=["com.microsoft"]),
    "microsoft_matmul_4_bits": graph("""(float[N,32] x) => (float[N,4] y) <uint8[4,1,16] w, float[4] scale>
        { y = com.microsoft.MatMulNBits <K = 32, N = 4, bits = 4, block_size = 32> (x, w, scale) }""",
        domains=["com.microsoft"]),
    "ml_scaler": graph("""(float[N,3] x) => (float[N,3] y)
        { y = ai.onnx.ml.Scaler <offset = [0.5, 0.0, -1.0], scale = [2.0, 1.0, 0.5]> (x) }""",
        domains=["ai.onnx.ml"]),
    "unknown_domain": graph("""(float[N,4] x) => (float[N,4] y) { a = Relu(x) y = com.example.Mystery(a) }""",
        domains=["com.example"]),
}

GRAPHS: Mapping[str, Builder] = {**_NUMBERS, **_SHAPES, **_VERSIONS, **_DOMAINS}
