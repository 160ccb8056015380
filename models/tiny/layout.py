"""Joining, cutting, moving and pooling values."""

from __future__ import annotations

from collections.abc import Mapping

from lwc.models.tiny.text import Builder, graph

# fmt: off

_JOIN_AND_CUT: Mapping[str, Builder] = {
    "concat": graph("""(float[N,3,4] a, float[N,2,4] b) => (float[N,5,4] y)
        { y = Concat <axis = 1> (a, b) }"""),
    "concat_of_convs": graph("""(float[N,3,6,6] x) => (float[N,8,6,6] y)
        <float[4,3,1,1] w1, float[4] b1, float[4,3,3,3] w2, float[4] b2>
        { a = Conv(x, w1, b1) ra = Relu(a) c = Conv <pads = [1,1,1,1]> (x, w2, b2) rc = Relu(c)
          y = Concat <axis = -3> (ra, rc) }"""),
    "concat_with_constant": graph("""(float[2,3] x) => (float[2,5] y) <float[2,2] c>
        { y = Concat <axis = 1> (x, c) }"""),
    "concat_of_one": graph("""(float[N,3] x) => (float[N,3] y) { c = Concat <axis = 1> (x) y = Relu(c) }"""),
    "split": graph("""(float[N,6] x) => (float[N,3] a, float[N,3] y)
        { a, b = Split <axis = 1> (x) y = Relu(b) }""", 13),
    "split_uneven": graph("""(float[N,6] x) => (float[N,6] y) <int64[3] s = {1,2,3}>
        { a, b, c = Split <axis = 1> (x, s) y = Concat <axis = 1> (c, b, a) }"""),
    "split_by_count": graph("""(float[N,7] x) => (float[N,3] a, float[N,1] c)
        { a, b, c = Split <axis = 1, num_outputs = 3> (x) }""", 18),
    "split_then_concat_back": graph("""(float[N,6] x) => (float[N,6] y) <int64[2] s = {2,4}>
        { a, b = Split <axis = 1> (x, s) c = Concat <axis = 1> (a, b) y = Relu(c) }"""),
    "slice": graph("""(float[N,8,6] x) => (float[N,3,3] y)
        <int64[2] starts = {1,5}, int64[2] ends = {7,-10}, int64[2] axes = {1,2}, int64[2] steps = {2,-2}>
        { y = Slice(x, starts, ends, axes, steps) }"""),
    "slice_chain": graph("""(float[N,8] x) => (float[N,3] y)
        <int64[1] one = {1}, int64[1] end = {9223372036854775807}, int64[1] four = {4}>
        { a = Slice(x, one, end, one) y = Slice(a, one, four, one) }"""),
    "space_to_slices": graph("""(float[N,2,4,4] x) => (float[N,8,2,2] y)
        <int64[2] z = {0,0}, int64[2] zo = {0,1}, int64[2] oz = {1,0}, int64[2] o = {1,1},
         int64[2] e = {9999,9999}, int64[2] hw = {2,3}, int64[2] two = {2,2}>
        { a = Slice(x, z, e, hw, two) b = Slice(x, oz, e, hw, two)
          c = Slice(x, zo, e, hw, two) d = Slice(x, o, e, hw, two)
          y = Concat <axis = 1> (a, b, c, d) }"""),
    "gather": graph("""(float[N,6] x) => (float[N,2] y) <int64[2] i = {4,-6}>
        { y = Gather <axis = 1> (x, i) }"""),
    "gather_elements": graph("""(float[2,3] x) => (float[2,2] y) <int64[2,2] i = {2,0,1,1}>
        { y = GatherElements <axis = 1> (x, i) }"""),
    "scatter_nd": graph("""(float[4,3] x) => (float[4,3] y) <int64[2,1] i = {3,0}, float[2,3] u>
        { y = ScatterND(x, i, u) }"""),
    "top_k": graph("""(float[N,6] x) => (float[N,2] v, int64[N,2] i) <int64[1] k = {2}>
        { v, i = TopK(x, k) }"""),
    "arg_max": graph("""(float[N,6] x) => (int64[N] y) { y = ArgMax <axis = 1, keepdims = 0> (x) }"""),
    "non_zero": graph("""(float[3,4] x) => (int64[2,K] y) <float zero = {0.0}>
        { g = Greater(x, zero) y = NonZero(g) }"""),
    "where": graph("""(float[N,4] x) => (float[N,4] y) <float zero = {0.0}, float[4] c>
        { g = Greater(x, zero) y = Where(g, x, c) }"""),
    "tile_expand": graph("""(float[N,3] x) => (float[2,N,6] y) <int64[2] r = {1,2}, int64[3] s = {2,1,1}>
        { t = Tile(x, r) y = Expand(t, s) }"""),
}

_MOVE: Mapping[str, Builder] = {
    "reshape": graph("""(float[N,2,3,4] x) => (float[N,6,4] y) <int64[3] s = {0,6,-1}>
        { y = Reshape(x, s) }"""),
    "reshape_chain": graph("""(float[N,2,3,4] x) => (float[N,24] y)
        <int64[3] s1 = {-1,6,4}, int64[2] s2 = {-1,24}> { a = Reshape(x, s1) y = Reshape(a, s2) }"""),
    "reshape_of_zeros_chain": graph("""(float[2,3,4] x) => (float[3,2,4] y)
        <int64[3] s1 = {3,2,0}, int64[3] s2 = {0,0,-1}> { a = Reshape(x, s1) y = Reshape(a, s2) }"""),
    "reshape_computed": graph("""(float[N,T,8] x) => (float[N,T,2,4] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[2] tail = {2,4}>
        { s = Shape(x) n = Gather(s, zero) t = Gather(s, one)
          nu = Unsqueeze(n, first) tu = Unsqueeze(t, first)
          target = Concat <axis = 0> (nu, tu, tail) y = Reshape(x, target) }"""),
    "reshape_flatten": graph("""(float[N,2,3,4] x) => (float[N,24] y) <int64[3] s = {0,6,4}>
        { r = Reshape(x, s) y = Flatten(r) }"""),
    "squeeze_unsqueeze": graph("""(float[N,1,5] x) => (float[N,1,5] y) <int64[1] a = {1}>
        { s = Squeeze(x, a) r = Relu(s) y = Unsqueeze(r, a) }"""),
    "transpose": graph("""(float[N,3,4] x) => (float[4,N,3] y) { y = Transpose <perm = [2,0,1]> (x) }"""),
    "transpose_chain": graph("""(float[N,2,3,4] x) => (float[4,N,3,2] y)
        { a = Transpose <perm = [0,2,3,1]> (x) y = Transpose <perm = [2,0,1,3]> (a) }"""),
    "transpose_and_back": graph("""(float[N,2,3,4] x) => (float[N,2,3,4] y)
        { a = Transpose <perm = [0,2,3,1]> (x) b = Transpose <perm = [0,3,1,2]> (a) y = Relu(b) }"""),
    "transpose_around_relu": graph("""(float[N,2,3,4] x) => (float[N,2,3,4] y)
        { a = Transpose <perm = [0,2,3,1]> (x) r = Relu(a) y = Transpose <perm = [0,3,1,2]> (r) }"""),
    "transpose_reshape_chain": graph("""(float[N,8,4,4] x) => (float[N,16,8] y)
        <int64[3] s = {0,8,-1}> { r = Reshape(x, s) t = Transpose <perm = [0,2,1]> (r) y = Relu(t) }"""),
    "channels_last_conv": graph("""(float[N,6,6,3] x) => (float[N,6,6,4] y) <float[4,3,3,3] w, float[4] b>
        { t = Transpose <perm = [0,3,1,2]> (x) c = Conv <pads = [1,1,1,1]> (t, w, b)
          r = Relu(c) y = Transpose <perm = [0,2,3,1]> (r) }"""),
    "depth_to_space": graph("""(float[N,8,3,3] x) => (float[N,2,6,6] y)
        { y = DepthToSpace <blocksize = 2, mode = "CRD"> (x) }"""),
    "space_to_depth": graph("""(float[N,2,6,6] x) => (float[N,8,3,3] y) { y = SpaceToDepth <blocksize = 2> (x) }"""),
}

_POOL: Mapping[str, Builder] = {
    "max_pool": graph("""(float[N,3,7,7] x) => (float[N,3,4,4] y)
        { y = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x) }"""),
    "max_pool_ceil": graph("""(float[N,3,6,6] x) => (float[N,3,3,3] y)
        { y = MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x) }"""),
    "average_pool": graph("""(float[N,3,6,6] x) => (float[N,3,6,6] y)
        { y = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (x) }"""),
    "average_pool_count_pads": graph("""(float[N,3,6,6] x) => (float[N,3,6,6] y)
        { y = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1> (x) }"""),
    "global_max_pool": graph("""(float[N,3,6,6] x) => (float[N,3,1,1] y) { y = GlobalMaxPool(x) }"""),
    "pad_max_pool": graph("""(float[N,3,6,6] x) => (float[N,3,7,7] y)
        <int64[8] p = {0,0,1,1,0,0,1,1}> { q = Pad(x, p) y = MaxPool <kernel_shape = [2,2]> (q) }"""),
    "reduce_mean": graph("""(float[N,3,6,6] x) => (float[N,3] y)
        { y = ReduceMean <axes = [2,3], keepdims = 0> (x) }"""),
    "reduce_sum_axes_input": graph("""(float[N,3,4] x) => (float[N,1,4] y) <int64[1] a = {1}>
        { y = ReduceSum(x, a) }"""),
    "resize_nearest": graph("""(float[N,3,4,4] x) => (float[N,3,8,8] y) <float[4] factors = {1.0,1.0,2.0,2.0}>
        { y = Resize <mode = "nearest", nearest_mode = "floor",
                      coordinate_transformation_mode = "asymmetric"> (x, "", factors) }"""),
    "resize_linear_to_size": graph("""(float[1,3,4,4] x) => (float[1,3,7,9] y) <int64[4] sizes = {1,3,7,9}>
        { y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, "", "", sizes) }"""),
    "resize_to_computed_size": graph("""(float[N,3,4,4] x, float[N,3,H,W] like) => (float[N,3,H,W] y)
        { s = Shape(like) r = Resize <mode = "nearest"> (x, "", "", s) y = Add(r, like) }"""),
    "pad_constant": graph("""(float[N,3] x) => (float[N,6] y) <int64[4] p = {0,1,0,2}, float v = {-1.5}>
        { y = Pad(x, p, v) }"""),
    "feature_pyramid": graph("""(float[N,4,8,8] x) => (float[N,8,8,8] y)
        <float[4,4,3,3] w1, float[4] b1, float[4,4,1,1] w2, float[4] b2, float[4] factors = {1.0,1.0,2.0,2.0}>
        { a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1) r = Relu(a)
          u = Resize <mode = "nearest"> (r, "", factors) l = Conv(x, w2, b2)
          y = Concat <axis = 1> (u, l) }"""),
}

GRAPHS: Mapping[str, Builder] = {**_JOIN_AND_CUT, **_MOVE, **_POOL}
