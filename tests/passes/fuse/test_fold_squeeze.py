from __future__ import annotations

import pytest

from lwc.compiler.testing import assert_rewrites, assert_unchanged
from lwc.passes.fuse.fold_squeeze import FoldSqueeze

TEXT = "g (float[2, 3, 4] x) => (float[2, 3] y) <int64[1] a = {{{0}}}> {{ t = {1}\n y = Squeeze(t, a) }}"


@pytest.mark.parametrize("axis", [2, -1])
def test_a_reduction_drops_its_dimension_itself(axis: int) -> None:
    assert_rewrites(
        TEXT.format(axis, "ReduceMean<axes=[-1], keepdims=1>(x)"),
        FoldSqueeze(),
        "g (float[2, 3, 4] x) => (float[2, 3] y) { y = ReduceMean<axes=[-1], keepdims=0>(x) }",
    )


def test_the_place_of_the_largest_drops_its_dimension_too() -> None:
    assert_rewrites(
        TEXT.format(2, "ArgMax<axis=2>(x)").replace("(float[2, 3] y)", "(int64[2, 3] y)"),
        FoldSqueeze(),
        "g (float[2, 3, 4] x) => (int64[2, 3] y) { y = ArgMax<axis=2, keepdims=0>(x) }",
    )


def test_other_axes_stay() -> None:
    assert_unchanged(
        "g (float[1, 3, 4] x) => (float[3, 1] y) <int64[1] a = {0}, int64[1] b = {2}> {"
        "t = ReduceSum(x, b)\n y = Squeeze(t, a) }",
        FoldSqueeze(),
    )


def test_a_reduction_with_another_reader_stays() -> None:
    assert_unchanged(
        "g (float[2, 4] x) => (float[2] y, float[2, 1] z) <int64[1] a = {1}> { t = ReduceMax<axes=[1]>(x)\n"
        "y = Squeeze(t, a)\n z = Neg(t) }",
        FoldSqueeze(),
    )
