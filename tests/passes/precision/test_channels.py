from __future__ import annotations

import numpy as np
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.testing import parse
from lwc.passes.edit import add_initializer
from lwc.passes.precision.channels import Use, reshaped, uses_of
from lwc.passes.precision.rescale import source_of


def uses_in(text: str, **weights: tuple[int, ...]) -> list[Use]:
    """The uses of what the first node of `text` makes; undeclared names are ones of these shapes."""
    model = parse(text)
    dangling = {v.name: v for node in model.graph for v in node.inputs if v is not None and v.producer() is None}
    for name, shape in weights.items():
        value = dangling[name]
        value.name = None
        value.replace_all_uses_with(add_initializer(model.graph, name, np.ones(shape, np.float32)))
    infer_shapes(model)
    source = source_of(next(iter(model.graph)))
    assert source is not None
    return uses_of(source.value, source.index)


def channels_of(use: Use) -> list[int]:
    assert not use.reason, use.reason
    return [int(c) for reader in use.readers for c in reader.channels]


CONV = "g (float[2, 3, 8, 8] x) => (float[a, b, c, d] y) {{ t = Conv(x, w)\n {0} }}"
DENSE = "g (float[2, 5, 6] x) => (float[a, b, c] y) {{ t = MatMul(x, w)\n {0} }}"


@pytest.mark.parametrize(
    "between",
    ["u = Relu(t)", "u = LeakyRelu(t)", "u = PRelu(t, p)", "u = MaxPool<kernel_shape=[2, 2]>(t)",
     "u = AveragePool<kernel_shape=[2, 2]>(t)", "u = GlobalAveragePool(t)", "u = Identity(t)",
     "r = Relu(t)\n u = MaxPool<kernel_shape=[2, 2]>(r)"],
)  # fmt: skip
def test_channels_pass_homogeneous_operators(between: str) -> None:
    shapes = {"p": (4, 1, 1)} if "PRelu" in between else {}
    (use,) = uses_in(CONV.format(f"{between}\n y = Conv(u, v)"), w=(4, 3, 3, 3), v=(5, 4, 1, 1), **shapes)
    assert channels_of(use) == [0, 1, 2, 3]


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Softmax", "Exp"])
def test_other_operators_are_in_the_way(op: str) -> None:
    (use,) = uses_in(CONV.format(f"u = {op}(t)\n y = Conv(u, v)"), w=(4, 3, 3, 3), v=(5, 4, 1, 1))
    assert f"({op}) is in the way" in use.reason


def test_a_residual_connection_is_in_the_way() -> None:
    uses = uses_in(CONV.format("u = Conv(t, v)\n y = Add(u, t)"), w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    assert [bool(use.reason) for use in uses] == [False, True]


def test_a_gate_that_a_layer_makes_lets_channels_pass() -> None:
    gate = "p = GlobalAveragePool(t)\n q = Conv(p, v)\n s = Sigmoid(q)\n u = Mul(t, s)\n y = Conv(u, v)"
    uses = uses_in(CONV.format(gate), w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    assert [channels_of(use) for use in uses] == [[0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("square", ["u = Mul(t, t)", "r = Relu(t)\n u = Mul(t, r)", "r = Relu(t)\n u = Mul(r, t)"])
def test_a_product_with_itself_is_in_the_way(square: str) -> None:
    uses = uses_in(CONV.format(f"{square}\n y = Conv(u, v)"), w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    assert any(use.reason for use in uses)


def test_flattening_spreads_each_channel_over_its_pixels() -> None:
    text = "g (float[2, 3, 4, 4] x) => (float[a, b] y) { t = Conv(x, w)\n u = Flatten(t)\n y = Gemm(u, v) }"
    (use,) = uses_in(text, w=(2, 3, 3, 3), v=(8, 5))
    assert channels_of(use) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_channels_pass_the_values_of_attention() -> None:
    heads = (
        "g (float[2, 5, 6] x, float[2, 3, 5, 5] p) => (float[a, b, c] y)"
        "<int64[4] split = {2, 5, 3, 2}, int64[3] join = {2, 5, 6}> { t = MatMul(x, w)\n s = Reshape(t, split)\n"
        " h = Transpose<perm=[0, 2, 1, 3]>(s)\n m = MatMul(p, h)\n k = Transpose<perm=[0, 2, 1, 3]>(m)\n"
        " j = Reshape(k, join)\n y = MatMul(j, v) }"
    )
    (use,) = uses_in(heads, w=(6, 6), v=(6, 4))
    assert channels_of(use) == [0, 1, 2, 3, 4, 5]


def test_channels_do_not_pass_a_product_that_sums_over_them() -> None:
    text = "g (float[2, 5, 6] x, float[2, 6, 5] k) => (float[a, b, c] y) { t = MatMul(x, w)\n y = MatMul(t, k) }"
    (use,) = uses_in(text, w=(6, 6))
    assert "in the way" in use.reason


def test_channels_that_turned_into_rows_do_not_reach_a_layer() -> None:
    text = DENSE.format("u = Transpose<perm=[0, 2, 1]>(t)\n y = MatMul(u, v)")
    (use,) = uses_in(text, w=(6, 5), v=(5, 4))
    assert "in the way" in use.reason


def test_channels_that_leave_the_model_on_the_way_are_named() -> None:
    text = DENSE.format("u = Relu(t)\n y = MatMul(u, v)").replace("y)", "y, float[d, e, f] u)", 1)
    (use,) = uses_in(text, w=(6, 6), v=(6, 4))
    assert "'u' is an output" in use.reason


@pytest.mark.parametrize(
    ("index", "before", "after"),
    [
        ((6,), (None, 5, 6), (None, 5, 3, 2)),
        ((6,), (None, 5, 6), (None, 6)),
        ((3, 2), (2, 5, 3, 2), (2, 5, 6)),
        ((4, 1, 1), (2, 4, 3, 2), (2, 24)),
        ((4, 1, 1), (2, 4, 1, 1), (2, 4)),
        ((4, 1, 1), (2, 4, 3, 2), (2, 2, 2, 3, 2)),
        ((6,), (4, 6), (2, 1, 2, 6, 1)),
    ],
)
def test_a_reshaped_index_says_which_channel_each_value_is_of(
    index: tuple[int, ...], before: tuple[int | None, ...], after: tuple[int | None, ...]
) -> None:
    sizes = [7 if size is None else size for size in before]
    known = np.arange(int(np.prod(index))).reshape(index)
    found = reshaped(known, list(before), list(after))
    assert found is not None
    total = int(np.prod(sizes))
    shape = [total // int(np.prod([s for s in after if s])) if size is None else size for size in after]
    channels = np.broadcast_to(known, sizes).reshape(shape)
    np.testing.assert_array_equal(np.broadcast_to(found, shape), channels)


@pytest.mark.parametrize(
    ("before", "after"), [((None, 5, 6), (None, 3, 10)), ((2, 5, None), (2, 30)), ((2, 5, 6), (6, 5, 2)), ((6,), ())]
)
def test_a_reshape_that_mixes_channels_with_what_is_before_them_is_refused(
    before: tuple[int | None, ...], after: tuple[int | None, ...]
) -> None:
    assert reshaped(np.arange(6), list(before), list(after)) is None


def test_a_layer_in_a_branch_is_not_reached() -> None:
    text = (
        "g (bool c, float[2, 1] x) => (float[d, e] y) <float[1, 1] v = {2}> { t = Gemm(x, w)\n y = If(c) <"
        "then_branch = p () => (float[a, b] u) { u = Gemm(t, v) },"
        "else_branch = q () => (float[a, b] s) { s = Gemm(x, v) }> }"
    )
    uses = uses_in(text, w=(1, 1))
    assert [use.reason for use in uses] == ["'t' is read inside a subgraph"]


def test_only_layers_and_norms_with_constant_parameters_are_sources() -> None:
    model = parse("g (float[2, 6] x, float[6, 6] w) => (float[d, e] y) { t = Gemm(x, w)\n y = Relu(t) }")
    assert [source_of(node) for node in model.graph] == [None, None]
