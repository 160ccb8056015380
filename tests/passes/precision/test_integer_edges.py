"""Operators between integer layers: what stays in bytes, what is folded into ranges, what is rescaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lwc.backends.onnxruntime.build import runnable_byte_ops
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import BYTE_OPS
from lwc.models.structures import resnet18

byte_kernels = pytest.mark.skipif(
    runnable_byte_ops() != BYTE_OPS, reason="this version of ONNX Runtime lacks kernels on bytes"
)
RNG = np.random.default_rng(1)
Q, DQ = "QuantizeLinear", "DequantizeLinear"
FAITHFUL = 30.0  # dB over a short chain of 8-bit kernels


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("body", "kernel"),
    [
        ("y = GlobalAveragePool (c)", "QLinearGlobalAveragePool"),
        ("y = Sigmoid (c)", "QLinearSigmoid"),
        ("y = LeakyRelu <alpha = 0.2> (c)", "QLinearLeakyRelu"),
        ("y = Softmax <axis = 3> (c)", "QLinearSoftmax"),
        ("y = Add (c, c)", "QLinearAdd"),
        ("y = Add (c, k)", "QLinearAdd"),
        ("y = Sum (c, k)", "QLinearAdd"),
        ("y = BatchNormalization (c, v, v, v, v)", "QLinearConv"),
        ("y = Mul (c, k)", "QLinearMul"),
        ("y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (c)", "QLinearAdd"),
        ("y = HardSigmoid <alpha = 0.2, beta = 0.5> (c)", "QLinearAdd"),
        ("y = Tanh (c)", "QLinearSigmoid"),
        ("y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)", "QLinearConv"),
        ("y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (c)", "QLinearAveragePool"),
    ],
)
def test_operator_behind_an_integer_layer_becomes_one_integer_kernel(
    study: Callable[..., Any], body: str, kernel: str
) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[N,C,H,W] y) { c = Conv (x, w)\n" + body + " }"
    result = study(text, {"w": draw(8, 8, 1, 1), "k": draw(1, 8, 1, 1), "v": np.abs(draw(8))})
    assert sorted(result.executed) == sorted([Q, "QLinearConv", kernel, DQ])
    assert result.sqnr() > FAITHFUL


def test_hard_swish_is_two_integer_kernels(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = HardSwish (c) }"
    result = study(text, {"w": draw(8, 8, 1, 1)})
    assert sorted(result.executed) == sorted([Q, "QLinearConv", "QLinearAdd", "QLinearMul", DQ])
    assert result.sqnr() > FAITHFUL


def test_relu_vanishes_into_the_range_of_its_convolution(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Relu (c) }"
    result = study(text, {"w": draw(8, 8, 1, 1)})
    assert result.ops().count("Relu") == 0
    assert result.executed == [Q, "QLinearConv", DQ]
    assert result.found["y"].min() == 0.0


def test_clip_vanishes_and_still_limits_both_ends(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Clip (c, low, high) }"
    result = study(text, {"w": draw(8, 8, 1, 1), "low": np.float32(-0.5), "high": np.float32(1.5)})
    assert result.ops().count("Clip") == 0
    assert result.found["y"].max() == pytest.approx(1.5, abs=0.005)
    assert result.found["y"].min() == pytest.approx(-0.5, abs=0.005)


def test_clip_above_zero_stays(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Clip (c, low) }"
    result = study(text, {"w": draw(8, 8, 1, 1), "low": np.float32(0.5)})
    assert result.ops().count("Clip") == 1
    assert result.found["y"].min() == 0.5


def test_residual_block_stays_integer_from_end_to_end(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        r = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (r, w2)
        s = Add (c, r)
        y = Relu (s)
    }"""
    result = study(text, {"w1": draw(8, 8, 3, 3), "w2": draw(8, 8, 3, 3)})
    assert result.executed == [Q, "QLinearConv", "QLinearConv", "QLinearAdd", DQ]
    assert result.sqnr() > FAITHFUL


@pytest.mark.parametrize(
    "middle",
    [
        "m = Reshape (c, shape)\n n = Reshape (m, back)",
        "m = Transpose <perm = [0, 1, 3, 2]> (c)\n n = Transpose <perm = [0, 1, 3, 2]> (m)",
        "m, l = Split <axis = 1> (c)\n n = Concat <axis = 1> (l, m)",
        "n = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c)",
        pytest.param("n = Relu (c)\n o = Identity (c)", marks=byte_kernels),
        "m = Mul (c, third)\n n = Div (m, third)",
        "m = Unsqueeze (c, axes)\n n = Squeeze (m, axes)",
        "n = Gather <axis = 1> (c, order)",
        "m = Pad (c, pads)\n n = Slice (m, starts, ends, sides)",
        pytest.param("m = DepthToSpace <blocksize = 2> (c)\n n = SpaceToDepth <blocksize = 2> (m)", marks=byte_kernels),
        "m = Expand (c, wide)\n n = Identity (m)",
    ],
)
@pytest.mark.parametrize("symmetric", [False, True])
def test_integer_edge_stays_integer(study: Callable[..., Any], middle: str, symmetric: bool) -> None:
    extra = ", float[A,B,C,D] o" if " o = " in middle else ""
    text = f"""agraph (float[1,8,8,8] x) => (float[1,8,8,8] y{extra}) {{
        c = Conv (x, w1)
        {middle}
        y = Conv (n, w2)
    }}"""
    weights = {
        "w1": draw(8, 8, 1, 1), "w2": draw(8, 8, 1, 1), "shape": np.array([1, 4, 16, 8]),
        "back": np.array([1, 8, 8, 8]),
        "third": np.float32(1 / 3), "axes": np.array([0]), "order": np.arange(8)[::-1].copy(),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "starts": np.array([1, 1]), "ends": np.array([9, 9]),
        "sides": np.array([2, 3]), "wide": np.array([1, 8, 8, 8]),
    }  # fmt: skip
    result = study(text, weights, symmetric_activations=symmetric)
    assert result.sqnr() > FAITHFUL
    assert result.ops().count(Q) == 3
    if not symmetric:  # ONNX Runtime makes integer kernels of int8 activations on ARM alone
        assert result.executed.count(Q) == 1
        assert result.executed.count(DQ) == 1 + bool(extra)
        assert result.executed.count("QLinearConv") == 2


@byte_kernels
@pytest.mark.parametrize(
    ("kernel", "pads"),
    [(7, [3, 3, 3, 3]), (3, [1, 1, 1, 1]), (3, [0, 0, 1, 1]), (3, [1, 0, 0, 1]), (4, [1, 1, 1, 1]), (5, [2, 1, 2, 3])],
)
def test_first_layer_of_stride_2_reads_blocks_of_pixels(
    study: Callable[..., Any], kernel: int, pads: list[int]
) -> None:
    text = (
        f"agraph (float[1,3,16,20] x) => (float[1,8,H,W] y) {{ y = Conv <strides = [2, 2], pads = {pads}> (x, w, b) }}"
    )
    result = study(text, {"w": draw(8, 3, kernel, kernel), "b": draw(8)})
    assert result.executed == [Q, "SpaceToDepth", "QLinearConv", DQ]
    assert result.found["y"].shape == result.wanted["y"].shape
    assert result.sqnr() > FAITHFUL


@pytest.mark.parametrize("size", ["15,20", "H,W"])
def test_first_layer_of_odd_or_unknown_size_stays_as_it_is(study: Callable[..., Any], size: str) -> None:
    text = f"agraph (float[1,3,{size}] x) => (float[1,8,A,B] y) {{ y = Conv <strides = [2, 2]> (x, w) }}"
    result = study(text, {"w": draw(8, 3, 3, 3)})
    assert result.executed == [Q, "QLinearConv", DQ]


def test_channel_shuffle_becomes_a_gather_of_channels(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,6,6] x) => (float[1,8,6,6] y) {
        c = Conv (x, w1)
        r = Reshape (c, split)
        t = Transpose <perm = [0, 2, 1, 3, 4]> (r)
        s = Reshape (t, join)
        y = Conv (s, w2)
    }"""
    shapes = {"split": np.array([1, 2, 4, 6, 6]), "join": np.array([1, 8, 6, 6])}
    result = study(text, {"w1": draw(8, 8, 1, 1), "w2": draw(8, 8, 1, 1), **shapes})
    assert result.executed == [Q, "QLinearConv", "Gather", "QLinearConv", DQ]
    assert result.sqnr() > FAITHFUL


def test_value_is_quantized_once_for_all_readers(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,8,8] y, float[1,8,8,8] z) {
        y = Conv (x, w1)
        z = Conv (x, w2)
    }"""
    result = study(text, {"w1": draw(8, 8, 1, 1), "w2": draw(8, 8, 1, 1)})
    assert result.ops().count(Q) == 3
    assert result.executed.count(Q) == 1
    assert min(result.sqnr("y"), result.sqnr("z")) > FAITHFUL


def test_subgraph_reads_an_integer_value_dequantized(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) {
        c = Conv (x, w)
        d = Conv (c, v)
        s = ReduceSum <keepdims = 0> (d)
        p = Greater (s, zero)
        y = If (p) <then_branch = t () => (float[1,8,8,8] a) { a = Add (c, d) },
                    else_branch = e () => (float[1,8,8,8] b) { b = Sub (c, d) }>
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1), "v": draw(8, 8, 1, 1), "zero": np.float32(0)})
    assert result.executed.count("QLinearConv") == 2
    assert result.sqnr() > FAITHFUL


def test_integer_value_that_is_also_an_output_keeps_its_name(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] c, float[1,8,8,8] y) { c = Conv (x, w)\n y = Conv (c, v) }"
    result = study(text, {"w": draw(8, 8, 1, 1), "v": draw(8, 8, 1, 1)})
    assert list(result.found) == ["c", "y"]
    assert result.executed.count(Q) == 1
    assert min(result.sqnr("c"), result.sqnr("y")) > FAITHFUL


def test_shape_of_an_integer_value_is_taken_from_its_codes(study: Callable[..., Any]) -> None:
    text = """agraph (float[batch,8,8,8] x) => (float[batch,8,8,8] y, int64[4] s) {
        c = Conv (x, w)
        s = Shape (c)
        y = Conv (c, w)
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1)})
    assert result.executed.count(DQ) == 1
    np.testing.assert_array_equal(result.found["s"], result.wanted["s"])


def test_concat_of_what_only_it_reads_moves_bytes(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,16,8,8] y) {
        a = Conv (x, w)
        b = Conv (x, v)
        y = Concat <axis = 1> (a, b)
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1), "v": 3 * draw(8, 8, 1, 1)})
    assert result.executed == [Q, "QLinearConv", "QLinearConv", "Concat", DQ]
    assert result.sqnr() > FAITHFUL


def test_concat_of_shared_values_rescales(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,16,8,8] y) {
        a = Conv (x, w)
        b = Conv (a, v)
        y = Concat <axis = 1> (a, b)
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1), "v": 3 * draw(8, 8, 1, 1)})
    assert result.executed.count("QLinearConcat") == 1
    assert result.sqnr() > FAITHFUL


def test_concat_does_not_undo_the_relu_of_what_it_reads(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,16,8,8] y) {
        a = Conv (x, w)
        r = Relu (a)
        b = Conv (x, v)
        y = Concat <axis = 1> (r, b)
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1), "v": draw(8, 8, 1, 1)})
    assert result.found["y"][:, :8].min() == 0.0
    assert result.sqnr() > FAITHFUL


def test_rescaling_by_a_constant_costs_nothing(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) {
        c = Conv (x, w)
        m = Mul (c, third)
        n = Div (m, seven)
        y = Conv (n, w)
    }"""
    result = study(text, {"w": draw(8, 8, 1, 1), "third": np.float32(1 / 3), "seven": np.float32(7)})
    assert result.executed == [Q, "QLinearConv", "QLinearConv", DQ]
    assert result.sqnr() > FAITHFUL


@byte_kernels
def test_resnet_is_integer_from_its_input_to_its_logits(study: Callable[..., Any]) -> None:
    model = Model.from_proto(resnet18(), "resnet18")
    infer_shapes(model.ir)
    result = study(model)
    assert result.executed.count("QLinearConv") == 20
    assert result.executed.count("QLinearAdd") == 8
    assert [op for op in result.executed if not op.startswith(("QLinear", "QGemm"))] == [
        Q,
        "SpaceToDepth",
        "NhwcMaxPool",
    ]
    assert result.sqnr("logits") > FAITHFUL


def test_without_byte_kernels_these_operators_stay_float(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,8,8] y, float[1,8,8,8] o) {
        c = Conv (x, w1)
        n = Relu (c)
        o = Identity (c)
        m = DepthToSpace <blocksize = 2> (n)
        k = SpaceToDepth <blocksize = 2> (m)
        y = Conv (k, w2)
    }"""
    result = study(text, {"w1": draw(8, 8, 1, 1), "w2": draw(8, 8, 1, 1)}, byte_ops=frozenset())
    assert {"Relu", "DepthToSpace", "SpaceToDepth"} <= set(result.ops())
    assert "Max" not in result.ops()
    assert result.executed.count("QLinearConv") == 2
    assert result.sqnr() > FAITHFUL


def test_without_byte_kernels_the_first_layer_is_an_ordinary_convolution(study: Callable[..., Any]) -> None:
    conv = "Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)"
    text = f"agraph (float[1,3,16,16] x) => (float[1,8,8,8] y) {{ y = {conv} }}"
    result = study(text, {"w": draw(8, 3, 3, 3)}, byte_ops=frozenset())
    assert result.executed == [Q, "QLinearConv", DQ]
