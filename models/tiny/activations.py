"""Activations, as one operator and spelled out."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph


def _unary(nodes: str, opset: int = 17) -> Builder:
    """x [N, 4, 5] -> y [N, 4, 5]"""
    return graph(f"(float[N,4,5] x) => (float[N,4,5] y) {nodes}", opset)


_FUSED: Mapping[str, Builder] = {
    "relu": _unary("{ y = Relu(x) }"),
    "leaky_relu": _unary("{ y = LeakyRelu <alpha = 0.1> (x) }"),
    "prelu": _unary("<float[4,1] s> { y = PRelu(x, s) }"),
    "prelu_shared_slope": _unary("<float[1] s = {0.25}> { y = PRelu(x, s) }"),
    "elu": _unary("{ y = Elu <alpha = 0.5> (x) }"),
    "selu": _unary("{ y = Selu(x) }"),
    "softplus": _unary("{ y = Softplus(x) }"),
    "mish": _unary("{ y = Mish(x) }", 18),
    "tanh": _unary("{ y = Tanh(x) }"),
    "sigmoid": _unary("{ y = Sigmoid(x) }"),
    "hard_sigmoid": _unary("{ y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) }"),
    "hard_swish": _unary("{ y = HardSwish(x) }", 14),
    "gelu": _unary("{ y = Gelu(x) }", 20),
    "gelu_tanh": _unary('{ y = Gelu <approximate = "tanh"> (x) }', 20),
    "softmax": _unary("{ y = Softmax <axis = -1> (x) }"),
    "softmax_inner_axis": _unary("{ y = Softmax <axis = 1> (x) }"),
    "log_softmax": _unary("{ y = LogSoftmax <axis = -1> (x) }"),
    "clip": _unary("<float lo = {-0.5}, float hi = {0.75}> { y = Clip(x, lo, hi) }"),
    "clip_one_sided": _unary('<float hi = {0.75}> { y = Clip(x, "", hi) }'),
    "clip_computed_bound": _unary("{ m = ReduceMax <keepdims = 0> (x) z = Neg(m) y = Clip(x, z) }"),
    "relu_of_clip": _unary("<float lo = {-1.0}, float hi = {1.0}> { c = Clip(x, lo, hi) y = Relu(c) }"),
}

_SPELLED_OUT: Mapping[str, Builder] = {
    "hard_swish_decomposed": _unary("""<float three = {3.0}, float zero = {0.0}, float six = {6.0}>
        { a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six) }"""),
    "hard_swish_of_hard_sigmoid": _unary("""
        { h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, h) }"""),
    "hard_sigmoid_decomposed": _unary("""<float three = {3.0}, float zero = {0.0}, float six = {6.0}>
        { a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) }"""),
    "silu_decomposed": _unary("{ s = Sigmoid(x) y = Mul(x, s) }"),
    "mish_decomposed": _unary("{ p = Softplus(x) t = Tanh(p) y = Mul(x, t) }"),
    "gelu_decomposed": _unary("""<float root = {1.4142135}, float one = {1.0}, float half = {0.5}>
        { d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }"""),
    "gelu_decomposed_other_order": _unary("""<float root = {0.70710677}, float one = {1.0}, float half = {0.5}>
        { d = Mul(x, root) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a) }"""),
    "gelu_tanh_decomposed": _unary("""<float c = {0.044715}, float k = {0.7978846}, float one = {1.0},
        float half = {0.5}, float three = {3.0}>
        { p = Pow(x, three) q = Mul(p, c) r = Add(x, q) s = Mul(r, k) t = Tanh(s)
          a = Add(t, one) h = Mul(x, half) y = Mul(h, a) }"""),
    "quick_gelu_decomposed": _unary("<float k = {1.702}> { m = Mul(x, k) s = Sigmoid(m) y = Mul(x, s) }"),
    "swiglu": graph("""(float[N,8] x) => (float[N,4] y) <float[8,6] w1, float[8,6] w2, float[6,4] w3>
        { g = MatMul(x, w1) s = Sigmoid(g) a = Mul(g, s) u = MatMul(x, w2) h = Mul(a, u)
          y = MatMul(h, w3) }"""),
}

GRAPHS: Mapping[str, Builder] = {**_FUSED, **_SPELLED_OUT}
