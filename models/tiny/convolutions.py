"""Convolutions and what exporters put around them."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

_PLAIN: Mapping[str, Builder] = {
    "conv": graph("""(float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w, float[4] b>
        { y = Conv <pads = [1,1,1,1]> (x, w, b) }"""),
    "conv_without_bias": graph("""(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w>
        { y = Conv (x, w) }"""),
    "conv_pointwise": graph("""(float[N,8,5,5] x) => (float[N,16,5,5] y) <float[16,8,1,1] w, float[16] b>
        { y = Conv <kernel_shape = [1,1]> (x, w, b) }"""),
    "conv_strided_dilated": graph("""(float[N,3,11,9] x) => (float[N,4,5,4] y) <float[4,3,3,3] w, float[4] b>
        { y = Conv <strides = [2,2], dilations = [2,2], pads = [2,1,1,2]> (x, w, b) }"""),
    "conv_auto_pad": graph("""(float[N,3,9,9] x) => (float[N,4,5,5] y) <float[4,3,4,4] w>
        { y = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, w) }"""),
    "conv_1d": graph("""(float[N,4,20] x) => (float[N,6,20] y) <float[6,4,5] w, float[6] b>
        { y = Conv <pads = [2,2]> (x, w, b) }"""),
    "conv_3d": graph("""(float[N,2,5,6,7] x) => (float[N,4,3,4,5] y) <float[4,2,3,3,3] w, float[4] b>
        { y = Conv (x, w, b) }"""),
    "conv_depthwise": graph("""(float[N,8,8,8] x) => (float[N,8,8,8] y) <float[8,1,3,3] w, float[8] b>
        { y = Conv <group = 8, pads = [1,1,1,1]> (x, w, b) }"""),
    "conv_depthwise_multiplier": graph("""(float[N,4,8,8] x) => (float[N,8,6,6] y) <float[8,1,3,3] w>
        { y = Conv <group = 4> (x, w) }"""),
    "conv_grouped": graph("""(float[N,8,8,8] x) => (float[N,12,8,8] y) <float[12,4,3,3] w, float[12] b>
        { y = Conv <group = 2, pads = [1,1,1,1]> (x, w, b) }"""),
    "conv_transpose": graph("""(float[N,4,5,5] x) => (float[N,3,10,10] y) <float[4,3,4,4] w, float[3] b>
        { y = ConvTranspose <strides = [2,2], pads = [1,1,1,1]> (x, w, b) }"""),
    "conv_transpose_grouped": graph("""(float[N,4,5,5] x) => (float[N,6,11,11] y) <float[4,3,3,3] w>
        { y = ConvTranspose <group = 2, strides = [2,2]> (x, w) }"""),
    "conv_weight_is_computed": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4,1,1,1] s> { ws = Mul(w, s) y = Conv(x, ws) }"""),
    "conv_weight_is_an_input": graph("""(float[N,3,6,6] x, float[4,3,3,3] w) => (float[N,4,4,4] y) <float[4] b>
        { y = Conv(x, w, b) }"""),
}

_AFFINE: Mapping[str, Builder] = {
    "conv_bn_relu": graph("""(float[N,3,8,8] x) => (float[N,4,8,8] y)
        <float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { c = Conv <pads = [1,1,1,1]> (x, w)
          n = BatchNormalization(c, gamma, beta, mean, var)
          y = Relu(n) }"""),
    "conv_bias_bn": graph("""(float[N,3,8,8] x) => (float[N,4,6,6] y)
        <float[4,3,3,3] w, float[4] b, float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { c = Conv(x, w, b)
          y = BatchNormalization <epsilon = 0.01> (c, gamma, beta, mean, var) }"""),
    "conv_depthwise_bn": graph("""(float[N,4,8,8] x) => (float[N,4,6,6] y)
        <float[4,1,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { c = Conv <group = 4> (x, w) y = BatchNormalization(c, gamma, beta, mean, var) }"""),
    "conv_transpose_bn": graph("""(float[N,4,5,5] x) => (float[N,6,11,11] y)
        <float[4,3,3,3] w, float[6] gamma, float[6] beta, float[6] mean, float[6] var>
        { c = ConvTranspose <group = 2, strides = [2,2]> (x, w)
          y = BatchNormalization(c, gamma, beta, mean, var) }"""),
    "bn_conv": graph("""(float[N,3,8,8] x) => (float[N,4,8,8] y)
        <float[4,3,3,3] w, float[3] gamma, float[3] beta, float[3] mean, float[3] var>
        { n = BatchNormalization(x, gamma, beta, mean, var) y = Conv <pads = [1,1,1,1]> (n, w) }"""),
    "conv_output_also_used_before_bn": graph("""(float[N,3,8,8] x) => (float[N,4,6,6] c, float[N,4,6,6] y)
        <float[4,3,3,3] w, float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, var) }"""),
    "conv_mul": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4] b, float[4,1,1] s>
        { c = Conv(x, w, b) y = Mul(c, s) }"""),
    "conv_add": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[1,4,1,1] s>
        { c = Conv(x, w) y = Add(s, c) }"""),
    "conv_mul_add": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4] b, float[1,4,1,1] s, float[1,4,1,1] t>
        { c = Conv(x, w, b) m = Mul(s, c) y = Add(m, t) }"""),
    "conv_sub_div": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4] b, float[4,1,1] t, float[4,1,1] scale>
        { c = Conv(x, w, b) m = Sub(c, t) y = Div(m, scale) }"""),
    "conv_mul_scalar": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4] b, float s = {0.25}> { c = Conv(x, w, b) y = Mul(c, s) }"""),
    "conv_mul_of_each_pixel": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4] b, float[1,1,4,4] s> { c = Conv(x, w, b) y = Mul(c, s) }"""),
    "conv_add_along_width": graph("""(float[N,3,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, float[4] t> { c = Conv(x, w) y = Add(c, t) }"""),
    "conv_mul_of_higher_rank": graph("""(float[2,3,6,6] x) => (float[1,2,4,4,4] y)
        <float[4,3,3,3] w, float[1,1,4,1,1] s> { c = Conv(x, w) y = Mul(c, s) }"""),
    "pad_conv": graph("""(float[N,3,6,6] x) => (float[N,4,6,7] y)
        <float[4,3,3,3] w, float[4] b, int64[8] p = {0,0,1,1,0,0,1,2}>
        { q = Pad(x, p) y = Conv(q, w, b) }"""),
    "pad_conv_reflect": graph("""(float[N,3,6,6] x) => (float[N,4,6,6] y)
        <float[4,3,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}>
        { q = Pad <mode = "reflect"> (x, p) y = Conv(q, w) }"""),
    "pad_conv_of_ones": graph("""(float[N,3,6,6] x) => (float[N,4,6,6] y)
        <float[4,3,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}, float one = {1.0}>
        { q = Pad(x, p, one) y = Conv(q, w) }"""),
    "pad_conv_channels": graph("""(float[N,2,6,6] x) => (float[N,4,4,4] y)
        <float[4,3,3,3] w, int64[8] p = {0,1,0,0,0,0,0,0}> { q = Pad(x, p) y = Conv(q, w) }"""),
    "pad_conv_crop": graph("""(float[N,3,8,8] x) => (float[N,4,5,5] y)
        <float[4,3,3,3] w, int64[8] p = {0,0,-1,0,0,0,0,-1}> { q = Pad(x, p) y = Conv(q, w) }"""),
}

_BLOCKS: Mapping[str, Builder] = {
    "residual_block": graph("""(float[N,8,8,8] x) => (float[N,8,8,8] y)
        <float[8,8,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2>
        { a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a)
          c = Conv <pads = [1,1,1,1]> (r, w2, b2)
          s = Add(c, x) y = Relu(s) }"""),
    "residual_downsample": graph("""(float[N,4,8,8] x) => (float[N,8,4,4] y)
        <float[8,4,3,3] w1, float[8] b1, float[8,4,1,1] w2, float[8] b2>
        { a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
          c = Conv <strides = [2,2]> (x, w2, b2)
          s = Add(a, c) y = Relu(s) }"""),
    "inverted_residual": graph("""(float[N,4,8,8] x) => (float[N,4,8,8] y)
        <float[16,4,1,1] w1, float[16] b1, float[16,1,3,3] w2, float[16] b2, float[4,16,1,1] w3, float[4] b3>
        { lo = Constant <value_float = 0.0> () hi = Constant <value_float = 6.0> ()
          a = Conv(x, w1, b1) ac = Clip(a, lo, hi)
          d = Conv <group = 16, pads = [1,1,1,1]> (ac, w2, b2) dc = Clip(d, lo, hi)
          p = Conv(dc, w3, b3) y = Add(x, p) }"""),
    "squeeze_excite": graph("""(float[N,8,6,6] x) => (float[N,8,6,6] y)
        <float[4,8,1,1] w1, float[4] b1, float[8,4,1,1] w2, float[8] b2>
        { p = GlobalAveragePool(x) a = Conv(p, w1, b1) r = Relu(a)
          e = Conv(r, w2, b2) g = HardSigmoid(e) y = Mul(x, g) }"""),
    "dense_block": graph("""(float[N,4,6,6] x) => (float[N,4,6,6] y)
        <float[4,4,3,3] w1, float[4] b1, float[4,8,1,1] w2, float[4] b2>
        { a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a)
          j = Concat <axis = 1> (x, r) y = Conv(j, w2, b2) }"""),
    "channel_shuffle": graph("""(float[N,8,4,4] x) => (float[N,8,4,4] y)
        <int64[5] s1 = {-1,2,4,4,4}, int64[4] s2 = {-1,8,4,4}, float[8,4,1,1] w>
        { c = Conv <group = 2> (x, w) r = Reshape(c, s1)
          t = Transpose <perm = [0,2,1,3,4]> (r) y = Reshape(t, s2) }"""),
    "rep_vgg_block": graph("""(float[N,4,6,6] x) => (float[N,4,6,6] y)
        <float[4,4,3,3] w3, float[4] b3, float[4,4,1,1] w1, float[4] b1,
         float[4] gamma, float[4] beta, float[4] mean, float[4] var>
        { a = Conv <pads = [1,1,1,1]> (x, w3, b3) c = Conv(x, w1, b1)
          n = BatchNormalization(x, gamma, beta, mean, var)
          ac = Add(a, c) s = Add(ac, n) y = Relu(s) }"""),
    "classifier": graph("""(float[N,3,8,8] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, float[5,8] w, float[5] b>
        { a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a) m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
          c = Conv (m, w2, b2) s = Relu(c) p = GlobalAveragePool(s) f = Flatten(p)
          y = Gemm <transB = 1> (f, w, b) }"""),
}

GRAPHS: Mapping[str, Builder] = {**_PLAIN, **_AFFINE, **_BLOCKS}
