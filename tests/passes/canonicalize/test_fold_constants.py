from __future__ import annotations

import numpy as np
import pytest

from lwc.compiler.testing import CONTEXT, assert_rewrites, assert_unchanged, parse
from lwc.passes.canonicalize.fold_constants import FoldConstants

ONE_INPUT = "g (float[2] x) => (float[2] y) <{}> {{ {}\n y = Add(x, t) }}"


def test_computes_what_depends_on_constants_alone() -> None:
    assert_rewrites(
        ONE_INPUT.format("float[2] a = {1, 2}, float[2] b = {3, 4}", "s = Add(a, b)\n t = Mul(s, b)"),
        FoldConstants(),
        ONE_INPUT.format("float[2] t = {12, 24}", ""),
    )


def test_splits_into_constants() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) <float[4] a = {1, 2, 3, 4}> { s, t = Split<axis=0>(a)\n u = Add(x, s)\n"
        "y = Add(u, t) }",
        FoldConstants(),
        "g (float[2] x) => (float[2] y) <float[2] s = {1, 2}, float[2] t = {3, 4}> { u = Add(x, s)\n y = Add(u, t) }",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "t = RandomNormalLike(a)",
        "t = Bernoulli(a)",
        "t = Dropout(a, r, m)",
        "q = QuantizeLinear(a, r)\n t = DequantizeLinear(q, r)",
    ],
)
def test_random_operators_and_quantization_stay(statement: str) -> None:
    constants = "float[2] a = {1, 2}, float r = {0.5}, bool m = {1}"
    assert_unchanged(ONE_INPUT.format(constants, statement), FoldConstants())


def test_a_constant_that_callers_can_override_is_not_folded() -> None:
    assert_unchanged(
        "g (float[2] x, float[2] a = {1, 2}) => (float[2] y) { t = Neg(a)\n y = Add(x, t) }", FoldConstants()
    )


def test_a_graph_output_stays_the_output_of_a_node() -> None:
    assert_unchanged("g () => (float[2] y) <float[2] a = {1, 2}> { y = Neg(a) }", FoldConstants())


def test_a_result_that_would_grow_the_file_stays_a_node_and_is_reported() -> None:
    outcome = assert_unchanged(
        "g (float[2] x) => (float[n, 2] y) <int64[2] s = {100000, 2}> { t = ConstantOfShape(s)\n y = Add(x, t) }",
        FoldConstants(),
    )
    assert [skip.site.op for skip in outcome.skipped] == ["ConstantOfShape"]
    assert "200000 elements" in outcome.skipped[0].reason


def test_an_absurd_size_is_not_computed() -> None:
    assert_unchanged(
        "g (float[2] x) => (float[n] y) <int64[1] s = {4611686018427387904}> {"
        "t = ConstantOfShape(s)\n y = Add(x, t) }",
        FoldConstants(),
    )


def test_a_large_weight_may_be_transposed() -> None:
    model = parse("g (float[2, 300] x) => (float[2, 100] y) { t = Transpose<perm=[1, 0]>(w)\n y = MatMul(x, t) }")
    weight = np.arange(30000, dtype=np.float32).reshape(100, 300)
    dangling = next(iter(model.graph)).inputs[0]
    from lwc.passes.edit import add_initializer

    assert dangling is not None
    dangling.replace_all_uses_with(add_initializer(model.graph, "w", weight))
    FoldConstants().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["MatMul"]
    assert np.array_equal(model.graph.initializers["t"].const_value.numpy(), weight.T)  # type: ignore[union-attr]


def test_integer_division_by_zero_is_left_to_the_runtime() -> None:
    assert_unchanged(
        "g (int64[2] x) => (int64[2] y) <int64[2] a = {1, 2}, int64[2] b = {1, 0}> { t = Div(a, b)\n y = Add(x, t) }",
        FoldConstants(),
    )


def test_a_number_that_its_integer_type_cannot_hold_is_left_to_the_runtime() -> None:
    assert_unchanged(
        "g (int8[2] x) => (int8[2] y) <float[2] a = {1, 1000}> { t = Cast<to=3>(a)\n y = Add(x, t) }", FoldConstants()
    )


def test_folds_inside_a_branch_with_outer_constants() -> None:
    text = (
        "g (bool c, float[2] x) => (float[2] y) <float[2] a = {{1, 2}}> {{ y = If(c) <"
        "then_branch = p () => (float[2] u) {0},"
        "else_branch = q () => (float[2] v) {{ v = Add(x, a) }}> }}"
    )
    assert_rewrites(
        text.format("{ t = Neg(a)\n u = Add(x, t) }"),
        FoldConstants(),
        text.format("<float[2] t = {-1, -2}> { u = Add(x, t) }"),
    )


def test_nan_and_infinities_are_folded_as_they_are() -> None:
    model = parse(ONE_INPUT.format("float[2] a = {0, -1}, float[2] b = {0, 0}", "t = Div(a, b)"))
    FoldConstants().run(model, CONTEXT)
    found = model.graph.initializers["t"].const_value
    assert found is not None
    assert np.array_equal(found.numpy(), np.array([np.nan, -np.inf], np.float32), equal_nan=True)
