from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.testing import (
    CONTEXT,
    FP16,
    FP32,
    Tolerance,
    assert_equivalent,
    assert_keeps_promises,
    assert_unchanged,
    parse,
)
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.fold_affine import FoldAffine

RNG = np.random.default_rng(0)


def assert_folds_to(model: ir.Model, ops: list[str], tolerance: Tolerance = FP32) -> ir.Model:
    before = model.clone()
    assert_keeps_promises(model, FoldAffine(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ops
    assert_equivalent(before, model, tolerance=tolerance)
    return model


def floats(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def batchnorm(channels: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    variance = RNG.uniform(0.5, 2, channels).astype(dtype)
    return {"g": floats(channels, dtype=dtype), "b": floats(channels, dtype=dtype),
            "m": floats(channels, dtype=dtype), "v": variance}  # fmt: skip


BN = "y = BatchNormalization(t, g, b, m, v)"
CONV = "g (float[2, 4, 6, 6] x) => (float[d, e, f, h] y) {{ t = Conv<pads=[1, 1, 1, 1]{0}>(x, w{1})\n {2} }}"


@pytest.mark.parametrize("bias", ["", ", c"])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_batchnorm_goes_into_the_convolution_before_it(bias: str, group: int) -> None:
    weights = {"w": floats(8, 4 // group, 3, 3), **batchnorm(8), **({"c": floats(8)} if bias else {})}
    assert_folds_to(parse(CONV.format(f", group={group}", bias, BN), **weights), ["Conv"])


@pytest.mark.parametrize("group", [1, 2])
def test_batchnorm_goes_into_a_transposed_convolution(group: int) -> None:
    text = CONV.format(f", group={group}", "", BN).replace("Conv", "ConvTranspose")
    assert_folds_to(parse(text, w=floats(4, 6 // group, 3, 3), **batchnorm(6)), ["ConvTranspose"])


@pytest.mark.parametrize("transposed", [0, 1])
def test_batchnorm_goes_into_a_gemm_with_its_factors(transposed: int) -> None:
    text = (
        f"g (float[2, 4] x) => (float[d, e] y) {{ t = Gemm<alpha=0.5, beta=2.0, transB={transposed}>(x, w, c)\n {BN} }}"
    )
    weight = floats(6, 4) if transposed else floats(4, 6)
    assert_folds_to(parse(text, w=weight, c=floats(1, 6), **batchnorm(6)), ["Gemm"])


@pytest.mark.parametrize(
    "tail",
    [
        "y = Mul(t, s)", "y = Mul(s, t)", "y = Add(t, s)", "y = Sub(t, s)", "y = Sub(s, t)", "y = Div(t, s)",
        "y = Neg(t)",
        "u = Mul(t, s)\n y = Add(u, s)", "u = Mul(t, s)\n v = Sub(u, s)\n y = Neg(v)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (1,), (8, 1, 1), (1, 8, 1, 1), (1, 1, 1, 1)])
def test_scales_and_shifts_per_channel_go_into_the_convolution(tail: str, shape: tuple[int, ...]) -> None:
    weights = {"w": floats(8, 4, 3, 3), "c": floats(8)}
    if "s" in tail.replace("(t)", ""):
        weights["s"] = floats(*shape) + 3
    if "Neg(t)" in tail:
        weights.pop("s", None)
    assert_folds_to(parse(CONV.format("", ", c", tail), **weights), ["Conv"])


def test_a_scale_goes_into_a_matmul_but_a_shift_does_not() -> None:
    text = "g (float[2, 5, 4] x) => (float[d, e, f] y) { t = MatMul(x, w)\n u = Mul(t, s)\n y = Add(u, s) }"
    assert_folds_to(parse(text, w=floats(4, 6), s=floats(6)), ["MatMul", "Add"])


@pytest.mark.parametrize("shape", [(1, 1, 6), (8, 1, 6), (2, 8, 6, 6), (1, 1, 1, 1, 1)])
def test_what_varies_along_other_axes_or_widens_stays(shape: tuple[int, ...]) -> None:
    text = CONV.format("", "", "y = Mul(t, s)")
    if len(shape) > 4:
        text = text.replace("[d, e, f, h]", "[a, d, e, f, h]")
    model = parse(text, w=floats(8, 4, 3, 3), s=floats(*shape))
    assert not FoldAffine().run(model, CONTEXT).changed


def test_a_single_channel_is_not_widened() -> None:
    model = parse(CONV.format("", "", "y = Mul(t, s)"), w=floats(1, 4, 3, 3), s=floats(8, 1, 1))
    assert not FoldAffine().run(model, CONTEXT).changed


def test_a_shared_weight_is_copied_not_changed() -> None:
    text = "g (float[2, 4] x) => (float[d, e] y) { t = Gemm(x, w)\n u = Mul(t, s)\n r = Gemm(x, w)\n y = Add(u, r) }"
    model = assert_folds_to(parse(text, w=floats(4, 6), s=floats(6)), ["Gemm", "Gemm", "Add"])
    assert len(model.graph.initializers) == 2


def test_a_result_with_another_reader_stays() -> None:
    text = "g (float[2, 4] x) => (float[d, e] y) { t = Gemm(x, w)\n u = Mul(t, s)\n y = Add(u, t) }"
    assert not FoldAffine().run(parse(text, w=floats(4, 6), s=floats(6)), CONTEXT).changed


def test_a_graph_output_stays() -> None:
    text = "g (float[2, 4] x) => (float[d, e] y, float[f, h] t) { t = Gemm(x, w)\n y = Mul(t, s) }"
    assert not FoldAffine().run(parse(text, w=floats(4, 6), s=floats(6)), CONTEXT).changed


def test_weights_that_callers_can_override_stay() -> None:
    assert_unchanged(
        "g (float[2, 1] x, float[1, 1] w = {2}) => (float[2, 1] y) <float s = {3}> { t = Gemm(x, w)\n y = Mul(t, s) }",
        FoldAffine(),
    )


def test_batchnorm_in_training_stays() -> None:
    text = CONV.format("", "", "y, p, q = BatchNormalization<training_mode=1>(t, g, b, m, v)")
    assert not FoldAffine().run(parse(text, w=floats(8, 4, 3, 3), **batchnorm(8)), CONTEXT).changed


def test_folds_in_half_precision() -> None:
    text = CONV.format("", "", BN).replace("float", "float16")
    weights = {"w": floats(8, 4, 3, 3, dtype=np.float16), **batchnorm(8, np.float16)}
    folded = assert_folds_to(parse(text, **weights), ["Conv"], FP16)
    assert all(v.dtype == ir.DataType.FLOAT16 for v in folded.graph.initializers.values())


def test_folds_in_double_precision() -> None:
    text = "g (double[2, 4] x) => (double[d, e] y) { t = Gemm(x, w)\n y = Mul(t, s) }"
    assert_folds_to(parse(text, w=floats(4, 6, dtype=np.float64), s=floats(6, dtype=np.float64)), ["Gemm"])


def test_an_overflow_of_the_weight_type_is_refused_with_its_reason() -> None:
    text = "g (float16[2, 4] x) => (float16[d, e] y) { t = Gemm(x, w)\n y = Mul(t, s) }"
    weights = {"w": np.full((4, 6), 1000, np.float16), "s": np.full(6, 1000, np.float16)}
    outcome = FoldAffine().run(parse(text, **weights), CONTEXT)
    assert not outcome.changed
    assert "overflow" in outcome.skipped[0].reason


def test_the_layer_keeps_its_name() -> None:
    model = parse(CONV.format("", "", BN), w=floats(8, 4, 3, 3), **batchnorm(8))
    next(iter(model.graph)).name = "features.0"
    FoldAffine().run(model, CONTEXT)
    assert [node.name for node in model.graph] == ["features.0"]


def test_integer_layers_stay() -> None:
    text = "g (int32[2, 4] x) => (int32[d, e] y) { t = MatMul(x, w)\n y = Mul(t, s) }"
    model = parse(text, w=np.ones((4, 6), np.int32), s=np.ones(6, np.int32))
    assert not FoldAffine().run(model, CONTEXT).changed


def test_folds_inside_a_branch_with_an_outer_weight() -> None:
    text = (
        "g (bool c, float[2, 1] x) => (float[d, e] y) <float[1, 1] w = {2}, float s = {3}> { y = If(c) <"
        "then_branch = p () => (float[a, b] u) { t = Gemm(x, w)\n u = Mul(t, s) },"
        "else_branch = q () => (float[a, b] v) { v = Gemm(x, w) }> }"
    )
    before = parse(text)
    after = before.clone()
    assert_keeps_promises(after, FoldAffine(), CONTEXT)
    feeds = {"x": floats(2, 1)}
    for condition in (True, False):
        assert_equivalent(before, after, {**feeds, "c": np.array(condition)})
