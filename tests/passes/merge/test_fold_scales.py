"""Scales go into layers, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.testing import CONTEXT, FP32, assert_equivalent, assert_keeps_promises, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.merge.fold_scales import FoldScales

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def assert_folds_to(model: ir.Model, ops: list[str]) -> None:
    before = model.clone()
    assert_keeps_promises(model, FoldScales(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ops
    assert_equivalent(before, model, tolerance=FP32)


def assert_stays(model: ir.Model) -> None:
    assert not assert_keeps_promises(model, FoldScales(), CONTEXT).changed


IMAGE = "g (float[1, 4, 6, 6] x) => (float[a, b, c, d] y) {{ {} }}"
ROWS = "g (float[2, 5, 8] x) => (float[2, 5, 6] y) {{ {} }}"


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)])
def test_a_scale_goes_into_the_convolution_behind_it(op: str, shape: tuple[int, ...]) -> None:
    model = parse(IMAGE.format(f"t = {op}(x, s)\n y = Conv<pads=[1, 1, 1, 1]>(t, w, c)"),
                     s=RNG.uniform(0.5, 2, shape).astype(np.float32), w=floats(3, 4, 3, 3), c=floats(3))  # fmt: skip
    assert_folds_to(model, ["Conv"])


@pytest.mark.parametrize("between", ["Relu", "LeakyRelu", "MaxPool<kernel_shape=[2, 2]>", "GlobalAveragePool"])
def test_a_positive_scale_goes_through_what_commutes(between: str) -> None:
    text = IMAGE.format(f"t = Mul(x, s)\n u = {between}(t)\n y = Conv(u, w)")
    assert_folds_to(
        parse(text, s=RNG.uniform(0.5, 2, (4, 1, 1)).astype(np.float32), w=floats(3, 4, 1, 1)),
        [between.partition("<")[0], "Conv"],
    )


@pytest.mark.parametrize("between", ["Relu", "MaxPool<kernel_shape=[2, 2]>", "Sigmoid", "Softmax"])
def test_a_negative_scale_stays_before_what_looks_at_signs(between: str) -> None:
    text = IMAGE.format(f"t = Mul(x, s)\n u = {between}(t)\n y = Conv(u, w)")
    assert_stays(parse(text, s=-np.ones((4, 1, 1), np.float32), w=floats(3, 4, 1, 1)))


def test_a_scale_along_what_a_pool_moves_stays() -> None:
    text = "g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 3] y) { t = Mul(x, s)\n" \
           "u = AveragePool<kernel_shape=[1, 3], pads=[0, 1, 0, 1]>(t)\n y = MatMul(u, w) }"
    assert_stays(parse(text, s=RNG.uniform(0.5, 2, 6).astype(np.float32), w=floats(6, 3)))


def test_all_layers_behind_a_scale_take_it() -> None:
    text = ROWS.format("t = Mul(x, s)\n a = MatMul(t, v)\n b = MatMul(t, w)\n y = Mul(a, b)")
    assert_folds_to(parse(text, s=floats(8), v=floats(8, 6), w=floats(8, 6)), ["MatMul", "MatMul", "Mul"])


def test_a_scale_that_something_else_reads_stays() -> None:
    text = ROWS.format("t = Mul(x, s)\n a = MatMul(t, v)\n b = Relu(t)\n c = MatMul(b, v)\n d = ReduceMean(t)\n"
                       "e = Add(a, d)\n y = Add(e, c)")  # fmt: skip
    assert_stays(parse(text, s=floats(8), v=floats(8, 6)))


def test_a_weight_that_others_read_too_stays() -> None:
    text = ROWS.format("t = Mul(x, s)\n a = MatMul(t, v)\n b = MatMul(x, v)\n y = Mul(a, b)")
    assert_stays(parse(text, s=floats(8), v=floats(8, 6)))


def test_the_scale_of_a_normalization_stays() -> None:
    text = ROWS.format("m = ReduceMean<axes=[-1]>(x)\n u = Div(x, m)\n t = Mul(u, s)\n y = MatMul(t, w)")
    assert_stays(parse(text, s=floats(8), w=floats(8, 6)))


def test_a_number_behind_views_goes_into_the_layer_before_them() -> None:
    text = "g (float[2, 5, 8] x) => (float[2, 3, 5, 2] y) { a = MatMul(x, w)\n b = Add(a, c)\n" \
           "d = Reshape(b, shape)\n e = Transpose<perm=[0, 2, 1, 3]>(d)\n y = Mul(e, s) }"
    model = parse(text, w=floats(8, 6), c=floats(6), shape=np.array([2, 5, 3, 2]), s=np.float32(0.25))
    assert_folds_to(model, ["MatMul", "Add", "Reshape", "Transpose"])


@given(
    st.sampled_from(["Conv<group=2>", "Conv", "Gemm<transB=1>", "Gemm<alpha=0.5>"]), st.booleans(), st.floats(0.1, 9)
)
@settings(max_examples=25, deadline=None)
def test_layers_answer_the_same(layer: str, per_channel: bool, scale: float) -> None:
    convolves = layer.startswith("Conv")
    inputs = "float[2, 4, 3, 3] x" if convolves else "float[2, 4] x"
    outputs = "float[2, 6, 3, 3] y" if convolves else "float[2, 6] y"
    shape = ((4, 1, 1) if convolves else (4,)) if per_channel else ()
    weight = (6, 2 if "group" in layer else 4, 1, 1) if convolves else (6, 4) if "transB" in layer else (4, 6)
    model = parse(f"g ({inputs}) => ({outputs}) {{ t = Mul(x, s)\n y = {layer}(t, w) }}",
                     s=np.full(shape, scale, np.float32), w=floats(*weight))  # fmt: skip
    assert_folds_to(model, ["Mul", "Conv"] if "group" in layer and per_channel else [layer.partition("<")[0]])
