"""One graph per rule: which groups there are, and that removing them is what zeroing them is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import Channels, find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.target import NAMED
from lwc.compiler.merging.align import align
from lwc.compiler.merging.frame import framed
from lwc.compiler.testing import (
    DEEP_FP32,
    assert_equivalent,
    assert_valid,
    disagreement,
    run_onnxruntime,
    without_channels,
)
from lwc.models import tiny
from lwc.models.tiny.text import graph
from lwc.passes.sparsity.prune_channels import PruneChannels

TARGET = NAMED["cpu:x86-64-v4"]

# Graph: groups as "node size", "~" before those that are not exact, "h" behind runs of a shared axis.
CNN = {
    "conv": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[8] b1, float[3,8,1,1] w2>
        { a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2) }""",
        ["a 8"],
    ),
    "conv_depthwise_multiplier": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y)
        <float[4,2,1,1] w1, float[8,1,3,3] wd, float[8] bd, float[3,8,1,1] w2>
        { a = Conv(x, w1) d = Conv <group = 4, pads = [1,1,1,1]> (a, wd, bd) y = Conv(d, w2) }""",
        ["a 4", "d 2"],
    ),
    "conv_grouped": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y)
        <float[12,2,1,1] w1, float[6,4,3,3] wg, float[3,6,1,1] w2>
        { a = Conv(x, w1) g = Conv <group = 3, pads = [1,1,1,1]> (a, wg) y = Conv(g, w2) }""",
        ["a#0 3h", "a#1 4", "g 2"],
    ),
    "conv_transpose": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y)
        <float[4,2,1,1] w1, float[4,6,1,1] wt, float[6] b, float[3,6,1,1] w2>
        { a = Conv(x, w1) t = ConvTranspose(a, wt, b) y = Conv(t, w2) }""",
        ["a 4", "t 6"],
    ),
    "conv_transpose_grouped": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[6,2,1,1] w1, float[6,4,1,1] wt, float[3,8,1,1] w2>
        { a = Conv(x, w1) t = ConvTranspose <group = 2> (a, wt) y = Conv(t, w2) }""",
        ["a#0 2h", "a#1 3", "t 4"],
    ),
    "batch_norm_pool_resize": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[8] scale, float[8] b, float[8] m,
        float[8] var, float[3,8,1,1] w2, float[4] s = {1, 1, 2, 2}>
        { a = Conv(x, w1) n = BatchNormalization(a, scale, b, m, var)
          p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (n)
          r = Resize <mode = "nearest"> (p, , s) y = Conv(r, w2) }""",
        ["a 8"],
    ),
    "resize_to_sizes": (
        """(float[1,2,3,3] x) => (float[1,3,6,6] y)
        <float[8,2,1,1] w1, float[3,8,1,1] w2, int64[4] s = {1, 8, 6, 6}>
        { a = Conv(x, w1) r = Resize <mode = "nearest"> (a, , , s) y = Conv(r, w2) }""",
        ["a 8"],
    ),
    "instance_norm": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[8] scale, float[8] b, float[3,8,1,1] w2>
        { a = Conv(x, w1) n = InstanceNormalization(a, scale, b) y = Conv(n, w2) }""",
        ["a 8"],
    ),
    "squeeze_excite": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y)
        <float[8,2,1,1] w1, float[4,8,1,1] wa, float[8,4,1,1] wb, float[3,8,1,1] w2>
        { a = Conv(x, w1) g = GlobalAveragePool(a) s = Conv(g, wa) r = Relu(s) e = Conv(r, wb) h = Sigmoid(e)
          m = Mul(a, h) y = Conv(m, w2) }""",
        ["a 8", "s 4"],
    ),
    "prelu": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[8,1,1] slope, float[3,8,1,1] w2>
        { a = Conv(x, w1) p = PRelu(a, slope) y = Conv(p, w2) }""",
        ["a 8"],
    ),
    "channel_shuffle": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[3,8,1,1] w2,
        int64[5] s = {1, 2, 4, 6, 6}, int64[4] t = {1, 8, 6, 6}>
        { a = Conv(x, w1) r = Reshape(a, s) p = Transpose <perm = [0,2,1,3,4]> (r) f = Reshape(p, t)
          y = Conv(f, w2) }""",
        ["a#0 2h", "a#1 4"],
    ),
    "concat_then_view": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[4,2,1,1] wa, float[4,2,1,1] wb, float[3,4,1,1] w2,
        int64[5] s = {1, 2, 4, 6, 6}, int64[1] one = {1}>
        { a = Conv(x, wa) b = Conv(x, wb) c = Concat <axis = 1> (a, b) r = Reshape(c, s)
          m = ReduceMax <axes = [1], keepdims = 0> (r) y = Conv(m, w2) }""",
        ["a 4"],
    ),
    "depth_to_space": (
        """(float[1,2,6,6] x) => (float[1,3,12,12] y) <float[12,2,1,1] w1, float[3,3,1,1] w2>
        { a = Conv(x, w1) d = DepthToSpace <blocksize = 2> (a) y = Conv(d, w2) }""",
        ["a 3"],
    ),
    "space_to_depth_crd": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[4,2,1,1] w1, float[16,16,1,1] wm, float[3,4,1,1] w2>
        { a = Conv(x, w1) s = SpaceToDepth <blocksize = 2> (a) m = Conv(s, wm)
          d = DepthToSpace <blocksize = 2, mode = "CRD"> (m) y = Conv(d, w2) }""",
        ["a 4", "m 4h"],
    ),
    "pad_channels": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y)
        <float[4,2,1,1] w1, float[3,7,1,1] w2, int64[8] p = {0, 1, 0, 0, 0, 2, 0, 0}>
        { a = Conv(x, w1) d = Pad(a, p) y = Conv(d, w2) }""",
        ["a 4"],
    ),
    "flatten": (
        """(float[1,2,3,3] x) => (float[1,5] y) <float[4,2,1,1] w1, float[5,36] w2>
        { a = Conv(x, w1) f = Flatten(a) y = Gemm <transB = 1> (f, w2) }""",
        ["a 4"],
    ),
    "group_norm_21": (
        """(float[1,2,6,6] x) => (float[1,3,6,6] y) <float[8,2,1,1] w1, float[8] scale, float[8] b, float[3,8,1,1] w2>
        { a = Conv(x, w1) n = GroupNormalization <num_groups = 2> (a, scale, b) y = Conv(n, w2) }""",
        ["a#0 2h", "~a#1 4"],
    ),
    "group_norm_of_unknown_places": (
        """(float[1,2,H,W] x) => (float[1,3,H,W] y) <float[8,2,1,1] w1, float[2] scale, float[2] b, float[3,8,1,1] w2,
        int64[3] s = {0, 2, -1}>
        { a = Conv(x, w1) h = Shape(a) v = Reshape(a, s) n = InstanceNormalization(v, scale, b) r = Reshape(n, h)
          y = Conv(r, w2) }""",
        ["a 2h"],
    ),
}
SEQUENCES = {
    "mean_of_channels": (
        """(float[2,4] x) => (float[2,3] y) <float[4,8] w1, float[8,3] w2>
        { a = MatMul(x, w1) m = ReduceMean <axes = [1]> (a) c = Sub(a, m) y = MatMul(c, w2) }""",
        ["~a 8"],
    ),
    "layer_norm": (
        """(float[2,4] x) => (float[2,3] y) <float[4,8] w1, float[8] scale, float[8] b, float[8,3] w2>
        { a = MatMul(x, w1) n = LayerNormalization(a, scale, b) y = MatMul(n, w2) }""",
        ["~a 8"],
    ),
    "weight_on_the_left": (
        """(float[4,5] x) => (float[3,5] y) <float[8,4] w1, float[8,1] b, float[3,8] w2>
        { a = MatMul(w1, x) c = Add(a, b) y = MatMul(w2, c) }""",
        ["a 8"],
    ),
    "vector": (
        """(float[4] x) => (float[3] y) <float[4,8] w1, float[8,3] w2> { a = MatMul(x, w1) y = MatMul(a, w2) }""",
        ["a 8"],
    ),
    "batched_weights": (
        """(float[3,5,4] x) => (float[3,5,2] y) <float[3,4,8] w1, float[3,8,2] w2>
        { a = MatMul(x, w1) y = MatMul(a, w2) }""",
        ["a 8"],
    ),
    "einsum": (
        """(float[2,5,4] x) => (float[2,5,3] y) <float[4,2,6] w1, float[2,6,3] w2>
        { a = Einsum <equation = "btc,chd->bthd"> (x, w1) y = Einsum <equation = "bthd,hdo->bto"> (a, w2) }""",
        ["a#0 2", "a#1 6"],
    ),
    "swiglu_of_one_product": (
        """(float[2,4] x) => (float[2,3] y) <float[4,16] w1, float[8,3] w2>
        { a = MatMul(x, w1) g, u = Split <axis = 1> (a) s = Sigmoid(g) m = Mul(s, u) y = MatMul(m, w2) }""",
        ["a 8"],
    ),
    "swiglu_of_slices": (
        """(float[2,4] x) => (float[2,3] y) <float[4,16] w1, float[8,3] w2, int64[1] zero = {0}, int64[1] half = {8},
        int64[1] minus = {-8}, int64[1] end = {9223372036854775807}, int64[1] axis = {-1}>
        { a = MatMul(x, w1) g = Slice(a, zero, half, axis) u = Slice(a, minus, end, axis) m = Mul(g, u)
          y = MatMul(m, w2) }""",
        ["a 8"],
    ),
    "every_other": (
        """(float[2,4] x) => (float[2,3] y) <float[4,16] w1, float[8,3] w2, int64[1] zero = {0}, int64[1] one = {1},
        int64[1] two = {2}, int64[1] end = {16}>
        { a = MatMul(x, w1) g = Slice(a, zero, end, one, two) u = Slice(a, one, end, one, two) m = Mul(g, u)
          y = MatMul(m, w2) }""",
        ["a 8h"],
    ),
    "gather_of_a_run": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[4,3] w2, int64[4] run = {2, 3, 4, 5}>
        { a = MatMul(x, w1) g = Gather <axis = 1> (a, run) y = MatMul(g, w2) }""",
        ["a#0 2", "a#1 4"],
    ),
    "gather_of_a_transposed_view": (
        """(float[2,4] x) => (float[2,2,5] y) <float[4,6] w1, float[3,5] w2, int64[2,3] view = {0, 2, 4, 1, 3, 5}>
        { a = MatMul(x, w1) g = Gather <axis = 1> (a, view) y = MatMul(g, w2) }""",
        ["a 3h"],
    ),
    "gather_of_some": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[3,3] w2, int64[3] some = {4, 0, 1}>
        { a = MatMul(x, w1) g = Gather <axis = 1> (a, some) y = MatMul(g, w2) }""",
        ["g 3"],
    ),
    "embedding": (
        """(int64[2] x) => (float[2,3] y) <float[10,6] table, float[6,3] w>
        { e = Gather(table, x) y = MatMul(e, w) }""",
        ["e 6"],
    ),
    "tied_embedding": (
        """(int64[2] x) => (float[2,10] y) <float[10,6] table>
        { e = Gather(table, x) t = Transpose(table) y = MatMul(e, t) }""",
        ["e 6"],
    ),
    "equal_biases_couple_nothing": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[6,6] w2, float[6,3] w3, float[6] b>
        { p = MatMul(x, w1) a = Add(p, b) q = MatMul(a, w2) c = Add(q, b) y = MatMul(c, w3) }""",
        ["p 6", "q 6"],
    ),
    "where_of_a_mask": (
        """(float[2,4] x, bool[2,1] c) => (float[2,3] y) <float[4,6] w1, float[6] other, float[6,3] w2>
        { a = MatMul(x, w1) s = Where(c, a, other) y = MatMul(s, w2) }""",
        ["a 6"],
    ),
    "expand_of_a_vector": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[1,6] e, float[6,3] w2, int64[2] s = {2, 6}>
        { a = MatMul(x, w1) v = Expand(e, s) c = Add(a, v) y = MatMul(c, w2) }""",
        ["a 6"],
    ),
    "tile": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[12,3] w2, int64[2] r = {1, 2}>
        { a = MatMul(x, w1) t = Tile(a, r) y = MatMul(t, w2) }""",
        ["a 6"],
    ),
    "tile_of_one": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[1,1] e, float[6,3] w2, int64[2] r = {2, 6}>
        { a = MatMul(x, w1) t = Tile(e, r) c = Add(a, t) y = MatMul(c, w2) }""",
        ["a 6"],
    ),
    "reduce_sum": (
        """(float[2,4] x) => (float[2] y) <float[4,6] w1, int64[1] k = {1}>
        { a = MatMul(x, w1) y = ReduceSum <keepdims = 0> (a, k) }""",
        ["a 6"],
    ),
    "dequantized_weight": (
        """(float[2,4] x) => (float[2,3] y) <int8[4,6] w1, float[6] scale, float[6,3] w2>
        { w = DequantizeLinear <axis = 1> (w1, scale) a = MatMul(x, w) y = MatMul(a, w2) }""",
        ["w 6"],
    ),
    "weights_dequantized_in_blocks": (
        """(float[2,4] x) => (float[2,3] y) <float[4,8] w1, int8[8,3] w2, float[4,3] scale>
        { a = MatMul(x, w1) w = DequantizeLinear <axis = 0, block_size = 2> (w2, scale) y = MatMul(a, w) }""",
        ["a 4h"],
    ),
    "scatter_nd": (
        """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, int64[1,1] at = {1}, float[1,6] new, float[6,3] w2>
        { a = MatMul(x, w1) s = ScatterND(a, at, new) y = MatMul(s, w2) }""",
        ["a 6"],
    ),
    "shape_of_what_shrinks": (
        """(float[N,4] x) => (float[N,3] y) <float[4,6] w1, float[6] b, int64 k = {1}, float[6,3] w2>
        { a = MatMul(x, w1) s = Shape(a) e = Expand(b, s) c = Add(a, e) n = Gather(s, k) f = Cast <to = 1> (n)
          d = Div(c, f) y = MatMul(d, w2) }""",
        ["a 6"],
    ),
    "reshape_by_computed_shape": (
        """(float[N,T,4] x) => (float[N,T,3] y) <float[4,6] w1, float[6,3] w2, int64[1] a0 = {0}, int64[1] a1 = {1},
        int64[1] two = {2}, int64[1] three = {3}, int64[1] six = {6}>
        { a = MatMul(x, w1) s = Shape(a) n = Gather(s, a0) t = Gather(s, a1) h = Concat <axis = 0> (n, t, two, three)
          v = Reshape(a, h) r = Relu(v) g = Concat <axis = 0> (n, t, six) f = Reshape(r, g) y = MatMul(f, w2) }""",
        ["a#0 2h", "a#1 3"],
    ),
    "grouped_queries": (
        """(float[2,5,4] x) => (float[2,5,4] y) <float[4,24] wq, float[4,12] wk, float[4,12] wv, float[24,4] wo,
        int64[4] sq = {2, 5, 4, 6}, int64[4] sk = {2, 5, 2, 6}, int64[5] u = {2, 2, 1, 5, 6},
        int64[5] e = {2, 2, 2, 5, 6}, int64[4] m = {2, 4, 5, 6}, int64[3] o = {2, 5, 24}>
        { q = MatMul(x, wq) qr = Reshape(q, sq) qt = Transpose <perm = [0,2,1,3]> (qr)
          k = MatMul(x, wk) kr = Reshape(k, sk) kt = Transpose <perm = [0,2,1,3]> (kr) ku = Reshape(kt, u)
          ke = Expand(ku, e) km = Reshape(ke, m) kp = Transpose <perm = [0,1,3,2]> (km)
          v = MatMul(x, wv) vr = Reshape(v, sk) vt = Transpose <perm = [0,2,1,3]> (vr) vu = Reshape(vt, u)
          ve = Expand(vu, e) vm = Reshape(ve, m)
          s = MatMul(qt, kp) p = Softmax(s) c = MatMul(p, vm) ct = Transpose <perm = [0,2,1,3]> (c) f = Reshape(ct, o)
          y = MatMul(f, wo) }""",
        ["q#0 2h", "q#1 2h", "q#2 6", "v 6"],
    ),
    "rotary_halves": (
        """(float[5,4] x) => (float[5,5] y) <float[4,8] wq, float[4,8] wk, float[5,8] cos, float[5,8] sin>
        { q = MatMul(x, wq) a, b = Split <axis = 1> (q) n = Neg(b) r = Concat <axis = 1> (n, a)
          qc = Mul(q, cos) rs = Mul(r, sin) z = Add(qc, rs) k = MatMul(x, wk) t = Transpose(k) y = MatMul(z, t) }""",
        ["q 4"],
    ),
    "lstm": (
        """(float[5,2,3] x) => (float[5,1,2,3] y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[4,3] w2>
        { a = LSTM <hidden_size = 4> (x, w, r, b) y = MatMul(a, w2) }""",
        ["a 4"],
    ),
    "gru_both_ways_of_states": (
        """(float[5,2,3] x) => (float[5,2,2,3] y)
        <float[2,12,3] w, float[2,12,4] r, float[2,24] b, float[2,2,4] h0, float[4,3] w2>
        { a, h = GRU <hidden_size = 4, direction = "bidirectional", linear_before_reset = 1> (x, w, r, b, "", h0)
          y = MatMul(a, w2) }""",
        ["a 4"],
    ),
    "lstm_with_peepholes": (
        """(float[5,2,3] x) => (float[1,2,3] y)
        <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[1,2,4] h0, float[1,2,4] c0, float[1,12] p,
        float[4,3] w2>
        { "", h, c = LSTM <hidden_size = 4> (x, w, r, b, "", h0, c0, p) s = Add(h, c) y = MatMul(s, w2) }""",
        ["h 4"],
    ),
}
NEWER = {
    "attention": (
        """(float[2,5,4] x) => (float[2,5,3] y) <float[4,24] wq, float[4,12] wk, float[4,8] wv, float[16,3] wo>
        { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
          a = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v) y = MatMul(a, wo) }""",
        ["q#0 2h", "q#1 2h", "q#2 6", "v 4"],
    ),
    "attention_of_four_axes_and_a_mask": (
        """(float[2,4] x) => (float[1,2,2,3] y)
        <float[2,4,6] wq, float[2,4,6] wk, float[2,4,5] wv, float[2,5,3] wo, float[2,2,2] mask, int64[1] zero = {0}>
        { u = Unsqueeze(x, zero) q0 = MatMul(u, wq) q = Unsqueeze(q0, zero) k0 = MatMul(u, wk) k = Unsqueeze(k0, zero)
          v0 = MatMul(u, wv) v = Unsqueeze(v0, zero) m = Unsqueeze(mask, zero) a = Attention(q, k, v, m)
          y = MatMul(a, wo) }""",
        ["q0 6", "v0 5"],
    ),
    "rotary": (
        """(float[2,5,4] x) => (float[2,5,5] y) <float[4,24] wq, float[4,24] wk, float[2,5,4] cos, float[2,5,4] sin>
        { q = MatMul(x, wq) r = RotaryEmbedding <num_heads = 3> (q, cos, sin) k = MatMul(x, wk)
          t = Transpose <perm = [0,2,1]> (k) y = MatMul(r, t) }""",
        ["q#0 3h", "q#1 4"],
    ),
}
MICROSOFT = {
    "multi_head_attention": (
        """(float[2,5,4] x) => (float[2,5,3] y)
        <float[4,12] wq, float[4,12] wk, float[4,12] wv, float[36] b, float[12,3] wo>
        { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
          a = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v, b) y = MatMul(a, wo) }""",
        ["q#0 2h", "q#1 6", "v 6"],
    ),
    "skip_layer_norm": (
        """(float[2,5,4] x) => (float[2,5,3] y)
        <float[4,6] w1, float[4,6] w2, float[6] gamma, float[6] beta, float[6] bias, float[6,3] wo>
        { a = MatMul(x, w1) c = MatMul(x, w2)
          n, "", "", s = com.microsoft.SkipLayerNormalization(a, c, gamma, beta, bias)
          g = com.microsoft.Gelu(n) z = Add(g, s) y = MatMul(z, wo) }""",
        ["~a 6"],
    ),
}
CASES = {
    **{name: (graph(text, opset=21 if "21" in name else 17), groups) for name, (text, groups) in CNN.items()},
    **{name: (graph(text, opset=21 if "block" in name else 17), groups) for name, (text, groups) in SEQUENCES.items()},
    **{name: (graph(text, opset=23), groups) for name, (text, groups) in NEWER.items()},
    **{name: (graph(text, domains=["com.microsoft"]), groups) for name, (text, groups) in MICROSOFT.items()},
}


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = next(output.name for output in node.outputs if output.name)
    infer_shapes(model)
    return model


def described(channels: Channels) -> list[str]:
    return [f"{'' if g.exact else '~'}{g.site.name} {g.size}{'h' * g.heads}" for g in channels.groups]


@pytest.mark.parametrize("name", CASES)
def test_groups(name: str) -> None:
    build, groups = CASES[name]
    assert described(find_channels(named(build()))) == groups


@pytest.mark.parametrize("name", CASES)
def test_removing_is_zeroing(name: str) -> None:
    build, _ = CASES[name]
    model = named(build())
    channels = find_channels(model)
    rng = np.random.default_rng(0)
    feeds = tiny.feeds(model)
    for group in channels.groups:
        count = int(rng.integers(1, group.size))
        removed = {group.site: tuple(sorted(int(k) for k in rng.choice(group.size, count, replace=False)))}
        smaller = model.clone()
        plan = Plan({site: Pruned(gone) for site, gone in removed.items()})
        assert PruneChannels().run(smaller, PassContext(TARGET, plan)).changed == (group.site,)
        assert_valid(smaller)
        found = run_onnxruntime(ir.to_proto(smaller), feeds)
        if group.exact:
            wanted = run_onnxruntime(ir.to_proto(without_channels(model, channels, removed)), feeds)
            assert not (why := disagreement(list(wanted), list(found), DEEP_FP32)), f"{group.site}: {why}"


@pytest.mark.parametrize("name", CASES)
def test_shuffled_channels_compute_the_same(name: str) -> None:
    build, groups = CASES[name]
    model = Model(named(build()), name)
    if "dequantized" in name:
        pytest.skip("codes are not merged")
    frame = framed(align([model, model], Silent()), Silent())
    rng = np.random.default_rng(0)
    other = frame.fitted(1, {group: rng.permutation(size) for group, size in frame.sizes.items()})
    assert len(frame.sizes) >= min(1, len(groups))
    assert_equivalent(frame.model.ir, other.ir, tiny.feeds(model.ir), DEEP_FP32)
