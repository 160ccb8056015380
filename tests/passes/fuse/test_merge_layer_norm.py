from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.merge_layer_norm import MergeLayerNorm

CONSTANTS = (
    "float two = {{2}}, float e = {{0.00001}}, float[4] s = {{1, 2, 3, 4}}, float[4] b = {{4, 3, 2, 1}},"
    "float one = {{1}}, float[3, 4] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}"
)
HEAD = (
    "m = ReduceMean<axes=[-1]>(x)\n d = Sub(x, m)\n {0}\n v = ReduceMean<axes=[2]>(q)\n a = Add(v, e)\n r = Sqrt(a)\n"
)
GRAPH = "g (float[N, 3, 4] x) => (float[N, 3, 4] y) <" + CONSTANTS + "> {{ {0} {1} }}"
POW = "q = Pow(d, two)"


@pytest.mark.parametrize("square", [POW, "q = Mul(d, d)"])
@pytest.mark.parametrize(
    ("tail", "left", "inputs"),
    [
        ("n = Div(d, r)\n p = Mul(n, s)\n y = Add(p, b)", ["LayerNormalization"], 3),
        ("n = Div(d, r)\n p = Mul(s, n)\n y = Add(b, p)", ["LayerNormalization"], 3),
        ("n = Div(d, r)\n y = Mul(n, s)", ["LayerNormalization"], 2),
        ("y = Div(d, r)", ["LayerNormalization"], 2),
        ("n = Div(d, r)\n y = Mul(n, one)", ["LayerNormalization", "Mul"], 2),
        ("n = Div(d, r)\n y = Mul(n, w)", ["LayerNormalization", "Mul"], 2),
    ],
)
def test_its_parts_become_one_operator(square: str, tail: str, left: list[str], inputs: int) -> None:
    before = parse(GRAPH.format(HEAD.format(square), tail))
    after = before.clone()
    assert_keeps_promises(after, MergeLayerNorm(), CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert [node.op_type for node in after.graph] == left
    assert len(next(iter(after.graph)).inputs) == inputs
    assert_equivalent(before, after)


def test_two_trailing_axes_are_normalized_together() -> None:
    head = HEAD.format(POW).replace("axes=[-1]", "axes=[1, 2]").replace("axes=[2]", "axes=[-1, -2]")
    before = parse(GRAPH.format(head, "n = Div(d, r)\n y = Mul(n, w)"))
    after = before.clone()
    assert_keeps_promises(after, MergeLayerNorm(), CONTEXT)
    assert next(iter(after.graph)).attributes["axis"].as_int() == -2
    assert_equivalent(before, after)


@pytest.mark.parametrize(
    "change",
    [
        ("axes=[-1]", "axes=[1]"),
        ("axes=[2]", "axes=[1]"),
        ("two = {2}", "two = {3}"),
        ("Sqrt(a)", "Exp(a)"),
        ("Div(d, r)", "Div(x, r)"),
        ("y = Mul(n, s)", "o = Mul(n, s)\n y = Add(o, d)"),
        ("float[N, 3, 4]", "float[N, 3, K]"),
    ],
)
def test_what_is_none_stays(change: tuple[str, str]) -> None:
    text = GRAPH.format(HEAD.format(POW), "n = Div(d, r)\n y = Mul(n, s)")
    assert change[0] in text
    assert_unchanged(text.replace(*change), MergeLayerNorm())


def test_older_opsets_have_no_such_operator() -> None:
    text = GRAPH.format(HEAD.format(POW), "n = Div(d, r)\n y = Mul(n, s)")
    assert_unchanged('<ir_version: 8, opset_import: ["" : 16]>\n' + text, MergeLayerNorm())
