"""Matrix products and what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

GRAPHS: Mapping[str, Builder] = {
    "gemm": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b>
        { y = Gemm <transB = 1> (x, w, b) }"""),
    "gemm_untransposed": graph("""(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[6] b>
        { y = Gemm (x, w, b) }"""),
    "gemm_input_transposed": graph("""(float[8,N] x) => (float[N,6] y) <float[8,6] w, float[6] b>
        { y = Gemm <transA = 1> (x, w, b) }"""),
    "gemm_alpha_beta": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b>
        { y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b) }"""),
    "gemm_without_bias": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w>
        { y = Gemm <transB = 1> (x, w) }"""),
    "gemm_scalar_bias": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w, float b = {0.5}>
        { y = Gemm <transB = 1> (x, w, b) }"""),
    "gemm_full_bias": graph("""(float[3,8] x) => (float[3,6] y) <float[6,8] w, float[3,6] b>
        { y = Gemm <transB = 1> (x, w, b) }"""),
    "gemm_bias_is_computed": graph("""(float[N,8] x, float[N,6] c) => (float[N,6] y) <float[6,8] w>
        { r = Relu(c) y = Gemm <transB = 1> (x, w, r) }"""),
    "gemm_bn": graph("""(float[N,8] x) => (float[N,6] y)
        <float[6,8] w, float[6] b, float[6] gamma, float[6] beta, float[6] mean, float[6] var>
        { g = Gemm <transB = 1> (x, w, b) y = BatchNormalization(g, gamma, beta, mean, var) }"""),
    "gemm_mul_add": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b, float[6] s, float[6] t>
        { g = Gemm <transB = 1> (x, w, b) m = Mul(g, s) y = Add(m, t) }"""),
    "matmul": graph("""(float[N,8] x) => (float[N,6] y) <float[8,6] w> { y = MatMul(x, w) }"""),
    "matmul_3d": graph("""(float[N,T,8] x) => (float[N,T,6] y) <float[8,6] w> { y = MatMul(x, w) }"""),
    "matmul_add": graph("""(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[6] b>
        { m = MatMul(x, w) y = Add(m, b) }"""),
    "matmul_add_3d": graph("""(float[N,T,8] x) => (float[N,T,6] y) <float[8,6] w, float[6] b>
        { m = MatMul(x, w) y = Add(b, m) }"""),
    "matmul_add_of_rows": graph("""(float[3,8] x) => (float[3,6] y) <float[8,6] w, float[3,1] b>
        { m = MatMul(x, w) y = Add(m, b) }"""),
    "matmul_add_that_widens": graph("""(float[1,8] x) => (float[4,6] y) <float[8,6] w, float[4,6] b>
        { m = MatMul(x, w) y = Add(m, b) }"""),
    "matmul_scaled": graph("""(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[6] s>
        { m = MatMul(x, w) y = Mul(m, s) }"""),
    "matmul_of_scaled_input": graph("""(float[N,8] x) => (float[N,6] y) <float[8,6] w, float[8] s>
        { m = Mul(x, s) y = MatMul(m, w) }"""),
    "matmul_batched": graph("""(float[N,4,T,8] a, float[N,4,8,T] b) => (float[N,4,T,T] y)
        { y = MatMul(a, b) }"""),
    "matmul_batched_weight": graph("""(float[N,3,5,8] x) => (float[N,3,5,6] y) <float[3,8,6] w>
        { y = MatMul(x, w) }"""),
    "matmul_weight_on_the_left": graph("""(float[N,8,5] x) => (float[N,6,5] y) <float[6,8] w>
        { y = MatMul(w, x) }"""),
    "matmul_vector": graph("""(float[N,8] x) => (float[N] y) <float[8] w> { y = MatMul(x, w) }"""),
    "matmul_transposed_weight": graph("""(float[N,8] x) => (float[N,6] y) <float[6,8] w>
        { t = Transpose <perm = [1,0]> (w) y = MatMul(x, t) }"""),
    "matmul_transposed_input": graph("""(float[8,5] x) => (float[5,6] y) <float[8,6] w>
        { t = Transpose(x) y = MatMul(t, w) }"""),
    "low_rank": graph("""(float[N,16] x) => (float[N,12] y) <float[16,2] u, float[2,12] v>
        { m = MatMul(x, u) y = MatMul(m, v) }"""),
    "mlp": graph("""(float[N,16] x) => (float[N,4] y)
        <float[32,16] w1, float[32] b1, float[4,32] w2, float[4] b2>
        { a = Gemm <transB = 1> (x, w1, b1) r = Relu(a) y = Gemm <transB = 1> (r, w2, b2) }"""),
    "flatten_gemm": graph("""(float[N,4,3,3] x) => (float[N,6] y) <float[6,36] w, float[6] b>
        { f = Flatten <axis = 1> (x) y = Gemm <transB = 1> (f, w, b) }"""),
    "einsum": graph("""(float[N,T,8] x) => (float[N,6,T] y) <float[8,6] w>
        { y = Einsum <equation = "ntc,cd->ndt"> (x, w) }"""),
}
