"""Layers side by side become one, and answer the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.testing import CONTEXT, FP16, FP32, Tolerance, assert_equivalent, assert_keeps_promises, parse
from lwc.passes import clean
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.merge.merge_branches import MergeBranches

RNG = np.random.default_rng(0)


def floats(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return (RNG.standard_normal(shape) / max(1, shape[0]) ** 0.5).astype(dtype)


def assert_merges_to(model: ir.Model, ops: list[str], tolerance: Tolerance = FP32) -> ir.Model:
    before = model.clone()
    assert_keeps_promises(model, MergeBranches(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ops
    assert_equivalent(before, model, tolerance=tolerance)
    return model


def assert_stays(model: ir.Model) -> None:
    assert not assert_keeps_promises(model, MergeBranches(), CONTEXT).changed


ADAPTER = (
    "g (float[2, 5, 8] x) => (float[2, 5, 6] y) {{ t = MatMul(x, w)\n a = MatMul(x, a0)\n b = MatMul(a, b0)\n {} }}"
)
FACTORS = {"w": (8, 6), "a0": (8, 2), "b0": (2, 6)}


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: floats(*shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("end", ["y = Add(t, b)", "s = Mul(b, k)\n y = Add(s, t)", "s = Neg(b)\n y = Add(t, s)"])
def test_an_adapter_goes_into_the_weight(end: str) -> None:
    more = {"k": np.float32(1.5)} if "k)" in end else {}
    assert_merges_to(parse(ADAPTER.format(end), **weights(**FACTORS), **more), ["MatMul"])


def test_an_adapter_behind_the_bias_goes_into_the_weight() -> None:
    text = ADAPTER.format("u = Add(t, c)\n s = Mul(b, k)\n y = Add(u, s)")
    assert_merges_to(parse(text, **weights(**FACTORS, c=(6,)), k=np.float32(2)), ["MatMul", "Add"])


def test_two_adapters_go_into_one_weight() -> None:
    text = ADAPTER.format("u = Add(t, b)\n d = MatMul(x, d0)\n e = MatMul(d, e0)\n y = Add(u, e)")
    assert_merges_to(parse(text, **weights(**FACTORS, d0=(8, 3), e0=(3, 6))), ["MatMul"])


def test_a_scale_between_the_factors_and_biases_of_both_count() -> None:
    text = (
        "g (float[3, 8] x) => (float[3, 6] y) { t = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, c)\n"
        "a = Gemm(x, a0, d)\n s = Mul(a, k)\n b = Gemm<transB=1>(s, b0, e)\n y = Add(b, t) }"
    )
    shapes = {"w": (6, 8), "c": (6,), "a0": (8, 2), "d": (2,), "b0": (6, 2), "e": (1, 6)}
    assert_merges_to(parse(text, **weights(**shapes), k=np.float32(-0.7)), ["Gemm", "Add"])


@pytest.mark.parametrize("end", ["y = Add(t, b)\n z = Identity(b)", "y = Add(t, b)\n z = Identity(t)"])
def test_a_result_that_others_read_stays(end: str) -> None:
    text = ADAPTER.format(end).replace("(float[2, 5, 6] y)", "(float[2, 5, 6] y, float[2, 5, 6] z)")
    assert_stays(parse(text, **weights(**FACTORS)))


def test_products_of_different_values_stay() -> None:
    text = "g (float[2, 8] x, float[2, 8] z) => (float[2, 6] y) { a = MatMul(x, w)\n b = MatMul(z, v)\n y = Add(a, b) }"
    assert_stays(parse(text, w=floats(8, 6), v=floats(8, 6)))


def test_factors_without_a_layer_beside_them_stay() -> None:
    text = "g (float[2, 8] x) => (float[2, 8] y) { a = MatMul(x, a0)\n b = MatMul(a, b0)\n y = Add(x, b) }"
    assert_stays(parse(text, a0=floats(8, 2), b0=floats(2, 8)))


def test_a_result_that_broadcasts_stays() -> None:
    text = "g (float[2, 8] x) => (float[2, 6] y) { a = MatMul(x, w)\n b = MatMul(x, v)\n y = Add(a, b) }"
    assert_stays(parse(text, w=floats(8, 6), v=floats(8, 1)))


def test_a_weight_that_would_overflow_stays() -> None:
    text = "g (float16[2, 8] x) => (float16[2, 6] y) { a = MatMul(x, w)\n b = MatMul(x, v)\n y = Add(a, b) }"
    large = np.full((8, 6), 60000, np.float16)
    model = parse(text, w=large, v=large.copy())
    assert assert_keeps_promises(model, MergeBranches(), CONTEXT).skipped


BLOCK = "g (float[1, 8, 9, 9] x) => (float[1, 8, d, e] y) {{ {} }}"


@pytest.mark.parametrize("group", [1, 2, 8])
def test_branches_of_a_training_block_become_one_convolution(group: int) -> None:
    text = BLOCK.format(
        f"a = Conv<pads=[1, 1, 1, 1], group={group}>(x, k, c)\n b = Conv<group={group}>(x, p, d)\n"
        "i = BatchNormalization(x, g, t, m, v)\n u = Add(a, b)\n y = Add(u, i)"
    )
    shapes = {"k": (8, 8 // group, 3, 3), "c": (8,), "p": (8, 8 // group, 1, 1), "d": (8,), "g": (8,), "t": (8,)}
    model = parse(text, **weights(**shapes, m=(8,)), v=RNG.uniform(0.5, 2, 8).astype(np.float32))
    before = model.clone()
    clean(CONTEXT.target).run(model, PassContext(CONTEXT.target))
    assert [node.op_type for node in model.graph] == ["Conv"]
    assert_equivalent(before, model, tolerance=FP32)


def test_a_convolution_beside_its_input_takes_it_in() -> None:
    text = BLOCK.format("a = Conv<pads=[1, 1, 1, 1]>(x, k)\n y = Add(x, a)")
    assert_merges_to(parse(text, k=floats(8, 8, 3, 3)), ["Conv"])


@pytest.mark.parametrize(
    ("large", "small", "shapes"),
    [
        ("pads=[1, 1, 1, 1], strides=[2, 2]", "strides=[1, 1]", ((8, 8, 3, 3), (8, 8, 1, 1))),
        ("pads=[1, 1, 1, 1]", "pads=[0, 1, 0, 1], group=2", ((8, 8, 3, 3), (8, 4, 1, 3))),
        ("pads=[2, 2, 2, 2], dilations=[2, 2]", "pads=[1, 1, 1, 1]", ((8, 8, 3, 3), (8, 8, 3, 3))),
    ],
)
def test_kernels_that_read_other_pixels_stay(large: str, small: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    text = BLOCK.format(f"a = Conv<{large}>(x, k)\n b = Conv<{small}>(x, p)\n y = Add(a, b)")
    assert_stays(parse(text, k=floats(*shapes[0]), p=floats(*shapes[1])))


@given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(1, 2), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_smaller_kernel_goes_into_a_larger_one(
    size: int, grow: int, dilation: int, stride: int, swap: bool
) -> None:
    large = size + 2 * grow
    step = dilation if size > 1 else 1
    pad_small, pad_large = 1, 1 + grow * dilation
    frames = [f"pads=[{', '.join([str(pad)] * 4)}], strides=[{stride}, {stride}], dilations=[{d}, {d}]"
              for pad, d in ((pad_large, dilation), (pad_small, step))]  # fmt: skip
    if dilation * (large - 1) - step * (size - 1) != 2 * (pad_large - pad_small):
        return
    order = "b, a" if swap else "a, b"
    text = BLOCK.format(f"a = Conv<{frames[0]}>(x, k)\n b = Conv<{frames[1]}>(x, p, c)\n y = Add({order})")
    weights = {"k": floats(8, 8, large, large), "p": floats(8, 8, size, size), "c": floats(8)}
    assert_merges_to(parse(text, **weights), ["Conv"] if swap and not grow else ["Conv", "Add"])


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.floats(-3, 3, width=32), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_adapter_goes_into_its_weight(rank: int, inputs: int, outputs: int, scale: float, half: bool) -> None:
    kind, dtype = ("float16", np.float16) if half else ("float", np.float32)
    text = (
        f"g ({kind}[3, {inputs}] x) => ({kind}[3, {outputs}] y) {{ t = MatMul(x, w)\n a = MatMul(x, a0)\n"
        "b = MatMul(a, b0)\n s = Mul(k, b)\n y = Add(s, t) }"
    )
    factors = {"w": floats(inputs, outputs, dtype=dtype), "a0": floats(inputs, rank, dtype=dtype)}
    model = parse(text, **factors, b0=floats(rank, outputs, dtype=dtype), k=dtype(scale))
    assert_merges_to(model, ["MatMul"], FP16 if half else FP32)
