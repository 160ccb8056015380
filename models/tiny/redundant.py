"""What a clean-up should find, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

# fmt: off

_NO_OPS: Mapping[str, Builder] = {
    "identity": graph("(float[N,4] x) => (float[N,4] y) { a = Identity(x) b = Relu(a) y = Identity(b) }"),
    "identity_of_weight": graph("""(float[N,4] x) => (float[N,3] y) <float[4,3] w>
        { i = Identity(w) y = MatMul(x, i) }"""),
    "dropout": graph("(float[N,4] x) => (float[N,4] y) { d = Dropout(x) y = Relu(d) }"),
    "dropout_mask_is_output": graph("""(float[N,4] x) => (float[N,4] y, bool[N,4] mask)
        { d, mask = Dropout(x) y = Relu(d) }"""),
    "dropout_of_ratio": graph("""(float[N,4] x) => (float[N,4] y) <float ratio = {0.5}, bool training = {0}>
        { d = Dropout(x, ratio, training) y = Relu(d) }"""),
    "cast_to_same_type": graph("(float[N,4] x) => (float[N,4] y) { c = Cast <to = 1> (x) y = Relu(c) }"),
    "cast_chain": graph("""(int32[N,4] x) => (float[N,4] y)
        { a = Cast <to = 7> (x) b = Cast <to = 1> (a) y = Relu(b) }"""),
    "cast_that_loses": graph("""(float[N,4] x) => (float[N,4] y)
        { a = Cast <to = 6> (x) y = Cast <to = 1> (a) }"""),
    "reshape_to_same_shape": graph("""(float[2,3,4] x) => (float[2,3,4] y) <int64[3] s = {2,3,4}>
        { r = Reshape(x, s) y = Relu(r) }"""),
    "transpose_of_nothing": graph("""(float[N,3,4] x) => (float[N,3,4] y)
        { t = Transpose <perm = [0,1,2]> (x) y = Relu(t) }"""),
    "mul_by_one_add_zero": graph("""(float[N,4] x) => (float[N,4] y)
        <float one = {1.0}, float zero = {0.0}, float[4] zeros = {0.0,0.0,0.0,0.0}>
        { m = Mul(x, one) a = Add(zero, m) s = Sub(a, zeros) d = Div(s, one) y = Relu(d) }"""),
    "add_zero_that_widens": graph("""(float[1,4] x) => (float[3,4] y) <float[3,1] zeros = {0.0,0.0,0.0}>
        { a = Add(x, zeros) y = Relu(a) }"""),
    "pad_of_nothing": graph("""(float[N,4] x) => (float[N,4] y) <int64[4] p = {0,0,0,0}>
        { q = Pad(x, p) y = Relu(q) }"""),
    "slice_of_everything": graph("""(float[N,4] x) => (float[N,4] y)
        <int64[1] a = {0}, int64[1] e = {9223372036854775807}, int64[1] axis = {1}>
        { s = Slice(x, a, e, axis) y = Relu(s) }"""),
    "double_negation": graph("(float[N,4] x) => (float[N,4] y) { a = Neg(x) b = Neg(a) y = Relu(b) }"),
    "relu_twice": graph("(float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Relu(a) }"),
}

_UNUSED_AND_REPEATED: Mapping[str, Builder] = {
    "dead_code": graph("""(float[N,4] x) => (float[N,4] y) <float[4,4] w>
        { a = MatMul(x, w) b = Sigmoid(a) c = Neg(b) y = Relu(x) }"""),
    "dead_weight": graph("(float[N,4] x) => (float[N,4] y) <float[64,64] unused> { y = Relu(x) }"),
    "unused_input": graph("(float[N,4] x, float[N,4] ignored) => (float[N,4] y) { y = Relu(x) }"),
    "duplicate_subexpression": graph("""(float[N,4] x) => (float[N,3] y) <float[4,3] w>
        { a = Relu(x) b = Relu(x) m = MatMul(a, w) n = MatMul(b, w) y = Add(m, n) }"""),
    "duplicate_that_is_output": graph("""(float[N,4] x) => (float[N,4] y, float[N,4] z)
        { y = Relu(x) z = Relu(x) }"""),
    "duplicate_constants": graph("""(float[N,4] x) => (float[N,4] y)
        { a = Constant <value_float = 2.0> () b = Constant <value_float = 2.0> () m = Mul(x, a) y = Mul(m, b) }"""),
    "duplicate_weights": graph("""(float[N,2] x) => (float[N,2] y)
        <float[2,2] w1 = {0.5,-1.0,2.0,0.25}, float[2,2] w2 = {0.5,-1.0,2.0,0.25}>
        { m = MatMul(x, w1) y = MatMul(m, w2) }"""),
    "random_twice": graph("""(float[N,4] x) => (bool[N,4] y)
        { a = RandomNormalLike(x) b = RandomNormalLike(x) d = Sub(a, b) s = Abs(d) z = Sub(s, s)
          y = Equal(z, z) }"""),
    "shared_weight": graph("""(float[N,3,6,6] a, float[N,3,6,6] b) => (float[N,4,4,4] y, float[N,4,4,4] z)
        <float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { c = Conv(a, w) y = BatchNormalization(c, gamma, beta, mean, var) z = Conv(b, w) }"""),
    "weight_used_twice": graph("""(float[N,4] x) => (float[N,4] y) <float[4,4] w, float[4] b>
        { a = Gemm(x, w, b) r = Relu(a) y = Gemm <transB = 1> (r, w, b) }"""),
    "weight_is_output": graph("""(float[N,4] x) => (float[N,3] y, float[4,3] w) <float[4,3] w>
        { y = MatMul(x, w) }"""),
}

_CONSTANTS: Mapping[str, Builder] = {
    "constant_subgraph": graph("""(float[N,4] x) => (float[N,4] y) <float[4,4] w, float[4] b>
        { t = Transpose <perm = [1,0]> (w) p = MatMul(t, w) s = ReduceSum <keepdims = 0> (p) e = Sqrt(s)
          d = Div(p, e) m = MatMul(x, d) y = Add(m, b) }"""),
    "constant_of_shape": graph("""(float[2,4] x) => (float[2,4] y)
        { s = Shape(x) z = ConstantOfShape <value = float[1] {3.0}> (s) y = Add(x, z) }"""),
    "constant_range": graph("""(float[N,4] x) => (float[N,4] y)
        <float start = {0.0}, float limit = {4.0}, float delta = {1.0}>
        { r = Range(start, limit, delta) y = Mul(x, r) }"""),
    "constant_that_explodes": graph("""(float[N,1] x) => (float[N,2048] y) <int64[2] shape = {2048,2048}>
        { z = ConstantOfShape <value = float[1] {0.5}> (shape) s = ReduceSum <keepdims = 0> (z)
          e = Expand(s, shape) m = ReduceMean <axes = [0], keepdims = 0> (e) y = Mul(x, m) }"""),
    "constant_output": graph("""(float[N,4] x) => (float[N,4] y, float[2] z)
        { y = Relu(x) z = Constant <value_floats = [1.0, 2.0]> () }"""),
    "constant_attributes": graph("""(float[N,4] x) => (float[N,2,2] y)
        { s = Constant <value_ints = [0, 2, 2]> () f = Constant <value_float = 0.5> () m = Mul(x, f)
          y = Reshape(m, s) }"""),
    "shape_of_fixed_axes": graph("""(float[N,3,4] x) => (float[N,12] y) <int64[1] batch = {-1}, int64[1] zero = {0}>
        { s = Shape <start = 1> (x) p = ReduceProd <keepdims = 0> (s) u = Unsqueeze(p, zero)
          t = Concat <axis = 0> (batch, u) y = Reshape(x, t) }"""),
}

_OUTPUTS: Mapping[str, Builder] = {
    "input_is_output": graph("(float[N,4] x) => (float[N,4] x, float[N,4] y) { y = Relu(x) }"),
    "output_is_used": graph("(float[N,4] x) => (float[N,4] a, float[N,4] y) { a = Relu(x) y = Neg(a) }"),
    "identity_between_outputs": graph("""(float[N,4] x) => (float[N,4] a, float[N,4] b, float[N,4] c)
        { a = Relu(x) b = Identity(a) c = Identity(b) }"""),
    "identity_of_input": graph("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }"),
}

GRAPHS: Mapping[str, Builder] = {**_NO_OPS, **_UNUSED_AND_REPEATED, **_CONSTANTS, **_OUTPUTS}
