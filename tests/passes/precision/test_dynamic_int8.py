from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import DynamicInt8, Plan, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import parse
from lwc.passes.precision.dynamic_int8 import QuantizeDynamic

RNG = np.random.default_rng(1)
FAITHFUL = 30.0


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("(float[2,4,16] x) => (float[2,4,8] y) { y = MatMul (x, w) }", {"w": draw(16, 8)}),
        (
            "(float[b,l,16] x) => (float[b,l,8] y) { t = MatMul (x, w)\n y = Add (t, c) }",
            {"w": draw(16, 8), "c": draw(8)},
        ),
        ("(float[4,16] x) => (float[4,8] y) { y = Gemm (x, w, c) }", {"w": draw(16, 8), "c": draw(8)}),
        ("(float[4,16] x) => (float[4,8] y) { y = Gemm <transB = 1> (x, w, c) }", {"w": draw(8, 16), "c": draw(8)}),
        (
            "(float[4,16] x) => (float[4,8] y) { y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, c) }",
            {"w": draw(8, 16), "c": draw(8)},
        ),
    ],
)
def test_product_by_a_weight_becomes_one_kernel(study: Callable[..., Any], text: str, weights: dict[str, Any]) -> None:
    result = study("agraph " + text, weights, choice="int8-dynamic")
    assert result.executed == ["DynamicQuantizeMatMul"]
    assert result.sqnr() > FAITHFUL


def test_relu_behind_a_dynamic_product_stays(study: Callable[..., Any]) -> None:
    text = "agraph (float[4,16] x) => (float[4,8] y) { t = MatMul (x, w)\n y = Relu (t) }"
    result = study(text, {"w": draw(16, 8)}, choice="int8-dynamic")
    assert result.executed == ["DynamicQuantizeMatMul", "Relu"]


def test_products_of_the_same_activation_quantize_it_once(study: Callable[..., Any]) -> None:
    text = "agraph (float[4,16] x) => (float[4,8] y, float[4,8] z) { y = MatMul (x, w)\n z = MatMul (x, v) }"
    result = study(text, {"w": draw(16, 8), "v": draw(16, 8)}, choice="int8-dynamic")
    assert sorted(result.executed) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat"]
    assert min(result.sqnr("y"), result.sqnr("z")) > FAITHFUL


def test_float_weight_is_dropped_unless_others_read_it(study: Callable[..., Any]) -> None:
    text = "agraph (float[4,8] x) => (float[4,8] y) { t = MatMul (x, w)\n y = MatMul (t, w) }"
    both = study(text, {"w": draw(8, 8)}, choice="int8-dynamic")
    one = study(text, {"w": draw(8, 8)}, choice="int8-dynamic", keep=lambda site: site.name == "matmul_0")
    assert "w" not in both.initializers()
    assert [name for name, a in both.initializers().items() if a.dtype == np.int8 and a.ndim == 2] == ["w.q"]
    assert "w" in one.initializers()


def test_transposed_activation_is_skipped_with_the_reason(study: Callable[..., Any]) -> None:
    text = "agraph (float[16,4] x) => (float[4,8] y) { y = Gemm <transA = 1> (x, w) }"
    result = study(text, {"w": draw(16, 8)}, choice="int8-dynamic")
    assert [s.reason for s in result.outcome.skipped] == ["its activation is transposed"]
    assert result.ops() == ["Gemm"]


def test_convolution_is_skipped_with_the_reason(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { y = Conv (x, w) }"
    site = Site("conv_0", "Conv", "weight")
    result = study(text, {"w": draw(8, 8, 1, 1)}, choice="int8-dynamic", plan=lambda plan: Plan({site: DynamicInt8()}))
    assert [s.reason for s in result.outcome.skipped] == [
        "only products by a constant weight have a fast dynamic kernel"
    ]


def test_graph_output_keeps_its_name(study: Callable[..., Any]) -> None:
    text = "agraph (float[4,16] x) => (float[4,8] y) { y = MatMul (x, w) }"
    result = study(text, {"w": draw(16, 8)}, choice="int8-dynamic")
    assert list(result.found) == ["y"]


def test_static_and_dynamic_sites_meet(study: Callable[..., Any]) -> None:
    text = "agraph (float[4,16] x) => (float[4,8] y) { t = MatMul (x, w)\n y = MatMul (t, v) }"

    def mixed(plan: Plan) -> Plan:
        first, second = plan.choices
        return Plan({first: DynamicInt8(), second: plan.choices[second]}, plan.ranges)

    result = study(text, {"w": draw(16, 16), "v": draw(16, 8)}, plan=mixed)
    assert result.executed == ["DynamicQuantizeMatMul", "QuantizeLinear", "MatMulIntegerToFloat"]
    assert result.sqnr() > FAITHFUL


def test_opset_below_11_is_refused() -> None:
    model = parse('<ir_version: 5, opset_import: ["" : 10]> agraph (float[3,3] x) => (float[3,3] y) { y = Relu (x) }')
    plan = Plan({Site("relu", "Relu"): DynamicInt8()})
    with pytest.raises(UnsupportedOpset, match="opset 10"):
        QuantizeDynamic().run(model, PassContext(NAMED["cpu:x86-64-v4"], plan))
