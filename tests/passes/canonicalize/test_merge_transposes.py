from __future__ import annotations

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_rewrites, parse
from lwc.passes.canonicalize.merge_transposes import MergeTransposes
from lwc.passes.canonicalize.remove_unused import RemoveUnused

TWO = (
    "g (float[2, 3, 4] x) => (float[d, e, f] y) { t = Transpose<perm=[1, 2, 0]>(x)\n"
    "y = Transpose<perm=[0, 2, 1]>(t) }"
)


def test_two_transposes_become_one() -> None:
    before = parse(TWO)
    after = before.clone()
    assert MergeTransposes().run(after, CONTEXT).changed
    RemoveUnused().run(after, CONTEXT)
    assert [list(node.attributes["perm"].as_ints()) for node in after.graph] == [[1, 0, 2]]
    assert_equivalent(before, after)


def test_the_default_permutation_reverses() -> None:
    before = parse("g (float[2, 3] x) => (float[d, e] y) { t = Transpose(x)\n s = Transpose(t)\n y = Neg(s) }")
    after = before.clone()
    MergeTransposes().run(after, CONTEXT)
    assert_equivalent(before, after)
    merged = next(node for node in after.graph if node.outputs[0].name == "s")
    assert list(merged.attributes["perm"].as_ints()) == [0, 1]


def test_an_inner_transpose_with_other_readers_stays() -> None:
    assert_rewrites(
        "g (float[2, 3] x) => (float[d, e] y, float[f, h] z) { t = Transpose<perm=[1, 0]>(x)\n"
        "y = Transpose<perm=[1, 0]>(t)\n z = Neg(t) }",
        MergeTransposes(),
        "g (float[2, 3] x) => (float[d, e] y, float[f, h] z) { t = Transpose<perm=[1, 0]>(x)\n"
        "y = Transpose<perm=[0, 1]>(x)\n z = Neg(t) }",
    )


