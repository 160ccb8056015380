from __future__ import annotations

import pytest

from lwc.compiler.testing import assert_rewrites, assert_unchanged
from lwc.passes.canonicalize.merge_duplicates import MergeDuplicates


def test_equal_nodes_become_one() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) { a = Exp(x)\n b = Exp(x)\n c = Neg(a)\n d = Neg(b)\n y = Add(c, d) }",
        MergeDuplicates(),
        "g (float[2] x) => (float[2] y) { a = Exp(x)\n c = Neg(a)\n y = Add(c, c) }",
    )


def test_equal_constants_become_one() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) <float v = {2}, float w = {2}> { a = Mul(x, v)\n y = Add(a, w) }",
        MergeDuplicates(),
        "g (float[2] x) => (float[2] y) <float v = {2}> { a = Mul(x, v)\n y = Add(a, v) }",
    )


@pytest.mark.parametrize("other", ["float[1] w = {2}", "double w = {2}", "float w = {3}", "float w = {-0.0}"])
def test_constants_of_other_type_shape_or_bits_stay(other: str) -> None:
    first = "float v = {0.0}" if "-0" in other else "float v = {2}"
    kind = "double" if "double" in other else "float"
    assert_unchanged(
        f"g (float[2] x, {kind}[2] z) => (float[2] y, {kind}[2] u) <{first}, {other}> {{"
        "y = Mul(x, v)\n u = Mul(z, w) }",
        MergeDuplicates(),
    )


@pytest.mark.parametrize(
    "pair",
    [
        "a = RandomNormalLike(x)\n b = RandomNormalLike(x)",
        "a = Bernoulli(x)\n b = Bernoulli(x)",
        "a = Dropout(x, r, t)\n b = Dropout(x, r, t)",
        "a = Softmax<axis=0>(x)\n b = Softmax<axis=1>(x)",
        "a = Sub(x, s)\n b = Sub(s, x)",
    ],
)
def test_random_and_different_nodes_stay(pair: str) -> None:
    assert_unchanged(
        f"g (float[2, 2] x) => (float[2, 2] y) <float r = {{0.5}}, bool t = {{1}}, float s = {{2}}>"
        f"{{ {pair}\n y = Sub(a, b) }}",
        MergeDuplicates(),
    )


def test_operators_of_other_domains_stay() -> None:
    assert_unchanged(
        '<ir_version: 8, opset_import: ["" : 17, "other" : 1]>\n'
        "g (float[2] x) => (float[2] y) { a = other.F(x)\n b = other.F(x)\n y = Add(a, b) }",
        MergeDuplicates(),
    )


def test_constants_that_callers_can_override_stay() -> None:
    assert_unchanged(
        "g (float[2] x, float v = {2}) => (float[2] y) <float w = {2}> { a = Mul(x, v)\n y = Add(a, w) }",
        MergeDuplicates(),
    )


def test_two_outputs_that_compute_the_same_keep_their_nodes() -> None:
    assert_unchanged("g (float[2] x) => (float[2] y, float[2] z) { y = Exp(x)\n z = Exp(x) }", MergeDuplicates())


def test_an_output_may_take_over_from_an_inner_value() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y, float[2] z) { a = Exp(x)\n z = Neg(a)\n y = Exp(x) }",
        MergeDuplicates(),
        "g (float[2] x) => (float[2] y, float[2] z) { y = Exp(x)\n z = Neg(y) }",
    )


def test_merges_inside_a_branch_but_not_across_branches() -> None:
    text = (
        "g (bool c, float[2] x) => (float[2] y) {{ y = If(c) <"
        "then_branch = p () => (float[2] u) {{ a = Exp(x)\n {0} }},"
        "else_branch = q () => (float[2] v) {{ a = Exp(x)\n v = Neg(a) }}> }}"
    )
    assert_rewrites(text.format("b = Exp(x)\n u = Add(a, b)"), MergeDuplicates(), text.format("u = Add(a, a)"))


def test_nodes_that_differ_in_absent_outputs_stay() -> None:
    assert_unchanged(
        "g (float[1, 1, 4] x) => (float[1, 1, 2] y, int64[1, 1, 2] i) {"
        "a, i = MaxPool<kernel_shape=[3]>(x)\n b = MaxPool<kernel_shape=[3]>(x)\n y = Add(a, b) }",
        MergeDuplicates(),
    )
