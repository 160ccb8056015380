from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Range, Site, StaticInt8
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import parse
from lwc.passes.precision.static_int8 import QuantizeStatic

RNG = np.random.default_rng(1)
Q, DQ = "QuantizeLinear", "DequantizeLinear"
FAITHFUL = 30.0  # dB over a short chain of 8-bit kernels


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


CONV = "agraph (float[1,16,8,8] x) => (float[1,8,6,6] y) { y = Conv (x, w, b) }"

SINGLE = {
    "Conv": (CONV, {"w": draw(8, 16, 3, 3), "b": draw(8)}, "QLinearConv"),
    "Conv without bias": (CONV.replace(", b)", ")"), {"w": draw(8, 16, 3, 3)}, "QLinearConv"),
    "Conv 1d": (
        "agraph (float[1,16,8] x) => (float[1,8,6] y) { y = Conv (x, w, b) }",
        {"w": draw(8, 16, 3), "b": draw(8)},
        "QLinearConv",
    ),
    "Conv 3d": (
        "agraph (float[1,4,6,6,6] x) => (float[1,8,4,4,4] y) { y = Conv (x, w, b) }",
        {"w": draw(8, 4, 3, 3, 3), "b": draw(8)},
        "QLinearConv",
    ),
    "grouped Conv": (
        "agraph (float[1,16,8,8] x) => (float[1,8,6,6] y) { y = Conv <group = 4> (x, w, b) }",
        {"w": draw(8, 4, 3, 3), "b": draw(8)},
        "QLinearConv",
    ),
    "depthwise Conv": (
        "agraph (float[1,16,8,8] x) => (float[1,16,6,6] y) { y = Conv <group = 16> (x, w, b) }",
        {"w": draw(16, 1, 3, 3), "b": draw(16)},
        "QLinearConv",
    ),
    "Conv of unknown batch": (
        "agraph (float[batch,16,8,8] x) => (float[batch,8,6,6] y) { y = Conv (x, w, b) }",
        {"w": draw(8, 16, 3, 3), "b": draw(8)},
        "QLinearConv",
    ),
    "Gemm": (
        "agraph (float[4,16] x) => (float[4,8] y) { y = Gemm (x, w, b) }",
        {"w": draw(16, 8), "b": draw(8)},
        "QGemm",
    ),
    "Gemm transB": (
        "agraph (float[4,16] x) => (float[4,8] y) { y = Gemm <transB = 1> (x, w, b) }",
        {"w": draw(8, 16), "b": draw(8)},
        "QGemm",
    ),
    "Gemm transA": (
        "agraph (float[16,4] x) => (float[4,8] y) { y = Gemm <transA = 1> (x, w, b) }",
        {"w": draw(16, 8), "b": draw(8)},
        "QGemm",
    ),
    "Gemm alpha beta": (
        "agraph (float[4,16] x) => (float[4,8] y) { y = Gemm <alpha = 0.5, beta = -3.0> (x, w, b) }",
        {"w": draw(16, 8), "b": draw(1, 8)},
        "QGemm",
    ),
    "Gemm scalar bias": (
        "agraph (float[4,16] x) => (float[4,8] y) { y = Gemm (x, w, b) }",
        {"w": draw(16, 8), "b": draw(1)},
        "QGemm",
    ),
    "MatMul": (
        "agraph (float[2,4,16] x) => (float[2,4,8] y) { y = MatMul (x, w) }",
        {"w": draw(16, 8)},
        "MatMulIntegerToFloat",
    ),
    "MatMul with bias": (
        "agraph (float[2,4,16] x) => (float[2,4,8] y) { t = MatMul (x, w)\n y = Add (b, t) }",
        {"w": draw(16, 8), "b": draw(8)},
        "QGemm",
    ),
    "MatMul with bias, unknown batch": (
        "agraph (float[batch,4,16] x) => (float[batch,4,8] y) { t = MatMul (x, w)\n y = Add (t, b) }",
        {"w": draw(16, 8), "b": draw(8)},
        "QGemm",
    ),
    "MatMul by a stack": (
        "agraph (float[2,4,16] x) => (float[2,4,8] y) { y = MatMul (x, w) }",
        {"w": draw(2, 16, 8)},
        "MatMulIntegerToFloat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_layer_with_weight_becomes_one_integer_kernel(study: Callable[..., Any], name: str) -> None:
    text, weights, kernel = SINGLE[name]
    result = study(text, weights)
    assert [op for op in result.executed if op not in (Q, DQ)] == [kernel]
    assert result.executed.count(Q) == 1
    assert result.executed.count(DQ) == (kernel == "QLinearConv")
    assert result.sqnr() > FAITHFUL


def test_shared_weight_is_stored_once(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Conv (c, w) }"
    result = study(text, {"w": draw(8, 8, 1, 1)})
    assert [a.shape for a in result.initializers().values() if a.ndim == 4] == [(8, 8, 1, 1)]
    assert result.executed.count("QLinearConv") == 2


def test_float_reader_of_a_shared_weight_keeps_it(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n s = Sin (w)\n y = Conv (c, s) }"
    result = study(text, {"w": draw(8, 8, 1, 1)})
    kinds = {str(a.dtype) for a in result.initializers().values() if a.ndim == 4}
    assert kinds == {"float32", "int8"}


def test_float_reader_of_a_float_value_keeps_it(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y, float[1,8,8,8] z) { y = Conv (x, w)\n z = Sin (x) }"
    result = study(text, {"w": draw(8, 8, 1, 1)})
    np.testing.assert_array_equal(result.found["z"], result.wanted["z"])


def test_sites_left_float_are_untouched(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Conv (c, v) }"
    result = study(text, {"w": draw(8, 8, 1, 1), "v": draw(8, 8, 1, 1)}, keep=lambda site: site.name == "conv_0")
    assert result.executed.count("QLinearConv") == 1
    assert result.executed.count("Conv") == 1
    assert [site.name for site in result.outcome.changed] == ["conv_0"]


def test_site_without_range_is_skipped_with_the_reason(study: Callable[..., Any]) -> None:
    result = study(CONV, SINGLE["Conv"][1], plan=lambda plan: Plan(plan.choices, {"x": Range(-3, 3)}))
    assert [(s.site.name, s.reason) for s in result.outcome.skipped] == [
        ("conv_0", "the plan has no range for its output 'y'")
    ]
    assert result.ops() == ["Conv"]


def test_operator_without_integer_kernel_is_skipped_with_the_reason(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,4,4] x) => (float[1,8,8,8] y) { y = ConvTranspose <strides = [2, 2]> (x, w) }"
    site = Site("convtranspose_0", "ConvTranspose", "weight")
    result = study(text, {"w": draw(8, 8, 2, 2)}, plan=lambda plan: Plan({site: StaticInt8()}, plan.ranges))
    assert [s.reason for s in result.outcome.skipped] == ["there is no integer kernel for ConvTranspose"]


def test_bias_beyond_int32_takes_a_larger_weight_scale(study: Callable[..., Any]) -> None:
    weight = draw(8, 16, 3, 3)
    weight[3] *= 1e-9
    bias = draw(8)
    bias[3] = 40.0
    result = study(CONV, {"w": weight, "b": bias})
    assert result.found["y"][0, 3].mean() == pytest.approx(40.0, rel=0.01)
    assert max(abs(int(a).bit_length()) for a in result.initializers()["b.q"]) <= 31


def test_channel_of_zeros_gives_its_bias(study: Callable[..., Any]) -> None:
    weight = draw(8, 16, 3, 3)
    weight[2] = 0.0
    bias = np.linspace(-1, 1, 8).astype(np.float32)
    result = study(CONV, {"w": weight, "b": bias})
    step = (result.plan.ranges["y"].high - result.plan.ranges["y"].low) / 255
    np.testing.assert_allclose(result.found["y"][0, 2], bias[2], atol=step)


def test_weight_of_zeros_is_harmless(study: Callable[..., Any]) -> None:
    result = study(CONV, {"w": np.zeros((8, 16, 3, 3), np.float32), "b": np.ones(8, np.float32)})
    np.testing.assert_allclose(result.found["y"], 1.0, atol=1e-2)


def test_matmul_writes_integers_for_an_integer_reader_behind_reshapes(study: Callable[..., Any]) -> None:
    text = """agraph (float[2,4,16] x) => (float[2,4,4] y) {
        q = MatMul (x, w)
        k = MatMul (x, v)
        t = Transpose <perm = [0, 2, 1]> (k)
        y = MatMul (q, t)
    }"""
    result = study(text, {"w": draw(16, 8), "v": draw(16, 8)})
    assert result.executed == [Q, "QLinearMatMul", "QLinearMatMul", "MatMulIntegerToFloat"]
    assert result.sqnr() > FAITHFUL


def test_matmul_with_bias_is_integer_between_integer_layers(study: Callable[..., Any]) -> None:
    text = """agraph (float[2,4,16] x) => (float[2,4,8] y) {
        t = MatMul (x, w)
        u = Add (t, b)
        r = Relu (u)
        y = MatMul (r, v)
    }"""
    result = study(text, {"w": draw(16, 16), "b": draw(16), "v": draw(16, 8)})
    assert result.executed == [Q, "QGemm", "MatMulIntegerToFloat"]
    assert result.sqnr() > FAITHFUL


def test_bias_of_unknown_shape_stays_a_float_add(study: Callable[..., Any]) -> None:
    text = "agraph (float[batch,length,16] x) => (float[batch,length,8] y) { t = MatMul (x, w)\n y = Add (t, b) }"
    result = study(text, {"w": draw(16, 8), "b": draw(8)})
    assert result.executed == [Q, "MatMulIntegerToFloat", "Add"]
    assert result.sqnr() > FAITHFUL


def test_symmetric_target_gets_int8_activations_with_zero_in_the_middle(study: Callable[..., Any]) -> None:
    result = study(CONV, SINGLE["Conv"][1], symmetric_activations=True)
    zero_points = [a for name, a in result.initializers().items() if name.endswith("zero_point") and not a.ndim]
    assert [(str(a.dtype), int(a)) for a in zero_points] == [("int8", 0)] * 2
    assert result.sqnr() > FAITHFUL


def test_symmetric_target_keeps_relu_by_using_all_codes_for_positive_values(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { c = Conv (x, w)\n y = Relu (c) }"
    result = study(text, {"w": draw(8, 8, 1, 1)}, symmetric_activations=True)
    assert result.found["y"].min() == 0.0
    assert result.sqnr() > FAITHFUL


def test_target_without_vnni_gets_seven_bit_weights(study: Callable[..., Any]) -> None:
    result = study(CONV, SINGLE["Conv"][1], reduce_range=True)
    assert np.abs(result.initializers()["w.q"]).max() == 64


def test_opset_below_13_is_refused() -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["" : 12]> agraph (float[1,1,3,3] x) => (float[1,1,3,3] y) { y = Relu (x) }'
    )
    plan = Plan({Site("relu", "Relu"): StaticInt8()})
    with pytest.raises(UnsupportedOpset, match="opset 12"):
        QuantizeStatic().run(model, PassContext(NAMED["cpu:x86-64-v4"], plan))


def test_profile_names_the_sites_of_integer_kernels(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,16,8,8] x) => (float[1,16,8,8] y) {
        a = Conv (x, w)
        r = Relu (a)
        m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r)
        s = Add (m, r)
        y = HardSwish (s)
    }"""
    result = study(text, {"w": draw(16, 16, 1, 1)})
    backend = OnnxRuntime()
    profile = backend.detailed_profile(result.after, NAMED["cpu:x86-64-v4"].with_threads(1), [result.feeds], runs=2)
    named = {(kernel.node, kernel.op) for kernel in profile.kernels}
    assert {
        ("conv_0", "QLinearConv"),
        ("maxpool_2", "NhwcMaxPool"),
        ("add_3", "QLinearAdd"),
        ("hardswish_4", "QLinearAdd"),
        ("hardswish_4", "QLinearMul"),
    } <= named
