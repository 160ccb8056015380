from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_unchanged, parse
from lwc.passes.canonicalize.merge_views import MergeViews
from lwc.passes.canonicalize.remove_unused import RemoveUnused

CHAINS = {
    "reshape of reshape": ("int64[2] a = {4, 6}, int64[3] b = {2, 3, 4}", "t = Reshape(x, a)\n y = Reshape(t, b)"),
    "flatten of unsqueeze": ("int64[1] a = {0}", "t = Unsqueeze(x, a)\n y = Flatten<axis=1>(t)"),
    "unsqueeze of flatten": ("int64[1] a = {-1}", "t = Flatten<axis=1>(x)\n y = Unsqueeze(t, a)"),
    "copied dimensions": ("int64[2] a = {2, 12}, int64[3] b = {0, 3, -1}", "t = Reshape(x, a)\n y = Reshape(t, b)"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_two_views_become_one(name: str) -> None:
    constants, body = CHAINS[name]
    rank = 3 if name != "flatten of unsqueeze" else 2
    shape = ", ".join("defgh"[:rank])
    before = parse(f"g (float[2, 3, 4] x) => (float[{shape}] y) <{constants}> {{ {body} }}")
    after = before.clone()
    assert MergeViews().run(after, CONTEXT).changed
    RemoveUnused().run(after, CONTEXT)
    assert [node.op_type for node in after.graph] == ["Reshape"]
    assert_equivalent(before, after)


def test_squeeze_undoes_unsqueeze_whatever_the_dimensions() -> None:
    model = parse(
        "g (float[N, M] x) => (float[N, M] y) <int64[1] a = {1}> { r = Relu(x)\n t = Unsqueeze(r, a)\n"
        "s = Squeeze(t, a)\n y = Neg(s) }"
    )
    assert MergeViews().run(model, CONTEXT).changed
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"]


def test_axes_as_attributes_of_old_opsets_count_too() -> None:
    model = parse(
        '<ir_version: 4, opset_import: ["" : 11]>\n g (float[N, M] x) => (float[N, M] y) { r = Relu(x)\n'
        "t = Unsqueeze<axes=[1]>(r)\n s = Squeeze<axes=[1]>(t)\n y = Neg(s) }"
    )
    assert MergeViews().run(model, CONTEXT).changed


@pytest.mark.parametrize(
    "body",
    [
        "t = Reshape(x, a)\n y = Reshape(t, z)",  # copies a dimension of the inner view
        "t = Unsqueeze(x, p)\n y = Squeeze(t, q)",
        "t = Flatten<axis=1>(x)\n y = Unsqueeze(t, p)",
    ],
)
def test_views_with_two_unknown_dimensions_stay(body: str) -> None:
    assert_unchanged(
        "g (float[N, M] x, int64[K] w) => (float[d, e, f] y) <int64[2] z = {0, -1}, int64[1] p = {1},"
        f"int64[1] q = {{0}}> {{ a = Abs(w)\n {body} }}",
        MergeViews(),
    )


def test_a_result_without_elements_is_not_described_by_zeros() -> None:
    assert_unchanged(
        "g (float[0, 3] x) => (float[d, e] y) <int64[1] a = {1}> { t = Unsqueeze(x, a)\n y = Flatten<axis=1>(t) }",
        MergeViews(),
    )
