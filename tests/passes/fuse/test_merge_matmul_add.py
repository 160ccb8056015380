from __future__ import annotations

import pytest

from lwc.compiler.testing import assert_rewrites, assert_unchanged
from lwc.passes.fuse.merge_matmul_add import MergeMatMulAdd

GRAPH = "g ({0}[{1}] x, {0}[4, 3] w) => ({0}[{2}] y) <{0}[{3}] b = {{{4}}}> {{ t = MatMul(x, w)\n y = Add({5}) }}"


@pytest.mark.parametrize(("shape", "numbers"), [("3", "1, 2, 3"), ("1, 3", "1, 2, 3"), ("1", "1"), ("2, 1", "1, 2")])
@pytest.mark.parametrize("order", ["t, b", "b, t"])
def test_a_product_of_matrices_and_its_bias_become_a_gemm(shape: str, numbers: str, order: str) -> None:
    text = GRAPH.format("float", "2, 4", "2, 3", shape, numbers, order)
    head = text.partition("{ t = MatMul")[0]
    assert_rewrites(text, MergeMatMulAdd(), head + "{ y = Gemm(x, w, b) }")


@pytest.mark.parametrize(
    ("kind", "x", "y", "shape", "numbers"),
    [
        ("float", "5, 2, 4", "5, 2, 3", "3", "1, 2, 3"),
        ("int32", "2, 4", "2, 3", "3", "1, 2, 3"),
        ("float", "2, 4", "1, 2, 3", "1, 1, 3", "1, 2, 3"),
        ("float", "1, 4", "2, 3", "2, 1", "1, 2"),
        ("float", "N, 4", "N, 3", "2, 1", "1, 2"),
    ],
)
def test_other_shapes_and_types_stay(kind: str, x: str, y: str, shape: str, numbers: str) -> None:
    assert_unchanged(GRAPH.format(kind, x, y, shape, numbers, "t, b"), MergeMatMulAdd())


def test_a_product_with_another_reader_stays() -> None:
    assert_unchanged(
        "g (float[2, 4] x, float[4, 3] w) => (float[2, 3] y) <float[3] b = {1, 2, 3}> { t = MatMul(x, w)\n"
        "s = Add(t, b)\n y = Add(s, t) }",
        MergeMatMulAdd(),
    )
