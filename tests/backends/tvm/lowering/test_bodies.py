import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import assert_agrees

RNG = np.random.default_rng(0)


def test_qlinear_conv_with_a_scale_for_each_channel() -> None:
    text = """agraph (uint8[1, 2, 5, 5] x, int8[3, 2, 3, 3] w, int32[3] b) => (uint8[1, 3, 3, 3] y)
    <float xs = {0.1}, uint8 xz = {120}, float[3] ws = {0.02, 0.03, 0.01}, int8[3] wz = {0, 0, 0},
     float ys = {0.3}, uint8 yz = {110}> { y = QLinearConv (x, xs, xz, w, ws, wz, ys, yz, b) }"""
    x = RNG.integers(0, 256, (1, 2, 5, 5)).astype(np.uint8)
    w = RNG.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8)
    assert_agrees(text, {"x": x, "w": w, "b": np.array([100, -2000, 0], np.int32)})


def test_fused_matmul_scales_and_transposes() -> None:
    text = """agraph (float[2, 4, 3] a, float[2, 5, 4] b) => (float[2, 3, 5] y) {
        y = com.microsoft.FusedMatMul <alpha = 0.5, transA = 1, transB = 1> (a, b)
    }"""
    feeds = {"a": RNG.standard_normal((2, 4, 3)), "b": RNG.standard_normal((2, 5, 4))}
    assert_agrees(text, {name: array.astype(np.float32) for name, array in feeds.items()})


def test_fused_conv_clips() -> None:
    text = """agraph (float[1, 2, 4, 4] x, float[2, 2, 1, 1] w, float[2] b) => (float[1, 2, 4, 4] y) {
        y = com.microsoft.FusedConv <activation = "Clip", activation_params = [-0.5, 0.25]> (x, w, b)
    }"""
    feeds = {"x": RNG.standard_normal((1, 2, 4, 4)), "w": RNG.standard_normal((2, 2, 1, 1)), "b": np.ones(2)}
    assert_agrees(text, {name: array.astype(np.float32) for name, array in feeds.items()})


def test_multi_head_attention_with_bias_and_hidden_keys() -> None:
    text = """agraph (float[2, 3, 8] q, float[2, 4, 8] k, float[2, 4, 8] v, float[24] b, int32[2, 4] m)
        => (float[2, 3, 8] y) { y = com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, v, b, m) }"""
    shapes = {"q": (2, 3, 8), "k": (2, 4, 8), "v": (2, 4, 8), "b": (24,)}
    feeds = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    assert_agrees(text, {**feeds, "m": np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)})


def test_skip_layer_normalization_gives_the_sum_too() -> None:
    text = """agraph (float[2, 3, 4] x, float[2, 3, 4] s, float[4] g, float[4] b, float[4] c)
        => (float[2, 3, 4] y, float[2, 3, 4] sum) {
        y, , , sum = com.microsoft.SkipLayerNormalization <epsilon = 0.001> (x, s, g, b, c)
    }"""
    shapes = {"x": (2, 3, 4), "s": (2, 3, 4), "g": (4,), "b": (4,), "c": (4,)}
    assert_agrees(text, {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def test_dynamic_quantize_matmul() -> None:
    text = """agraph (float[3, 4] a, int8[4, 2] b) => (float[3, 2] y)
    <float s = {0.05}, int8 z = {3}, float[2] c = {1.0, 2.0}> {
        y = com.microsoft.DynamicQuantizeMatMul (a, b, s, z, c)
    }"""
    b = RNG.integers(-128, 128, (4, 2)).astype(np.int8)
    assert_agrees(text, {"a": RNG.standard_normal((3, 4)).astype(np.float32), "b": b})


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("quantized", [False, True])
def test_qgemm_with_a_scale_for_each_column(turned: int, quantized: bool) -> None:
    a, b = ("5, 3", "4, 5") if turned else ("3, 5", "5, 4")
    output, scale = ("uint8", ", ys, yz") if quantized else ("float", "")
    text = f"""agraph (uint8[{a}] a, int8[{b}] b, int32[4] c) => ({output}[3, 4] y)
    <float as = {{0.1}}, uint8 az = {{120}}, float[4] bs = {{0.02, 0.03, 0.01, 0.05}}, int8[4] bz = {{0, 5, -3, 0}},
     float ys = {{0.3}}, uint8 yz = {{110}}> {{
        y = com.microsoft.QGemm <alpha = 0.5, transA = {turned}, transB = {turned}> (a, as, az, b, bs, bz, c{scale})
    }}"""
    feeds = {
        "a": RNG.integers(0, 256, [int(n) for n in a.split(",")]).astype(np.uint8),
        "b": RNG.integers(-128, 128, [int(n) for n in b.split(",")]).astype(np.int8),
        "c": np.array([100, -2000, 0, 7], np.int32),
    }
    assert_agrees(text, feeds)
