from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.merge_gelu import MergeGelu

CONSTANTS = "float r = {{1.4142135}}, float i = {{0.70710677}}, float one = {{1}}, float h = {{0.5}}, float two = {{2}}"
GRAPH = (
    '<ir_version: 9, opset_import: ["" : 20]>\n g (float[2, 8] x) => (float[2, 8] y) <' + CONSTANTS + "> {{"
    "s = {0}\n e = Erf(s)\n p = Add(e, one)\n {1} }}"
)


@pytest.mark.parametrize("scaled", ["Div(x, r)", "Mul(x, i)"])
@pytest.mark.parametrize(
    "tail",
    [
        "m = Mul(x, p)\n y = Mul(m, h)",
        "m = Mul(x, p)\n y = Div(m, two)",
        "m = Mul(x, h)\n y = Mul(m, p)",
        "m = Mul(p, h)\n y = Mul(x, m)",
    ],
)
def test_its_parts_become_one_operator(scaled: str, tail: str) -> None:
    before = parse(GRAPH.format(scaled, tail))
    after = before.clone()
    assert_keeps_promises(after, MergeGelu(), CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert [node.op_type for node in after.graph] == ["Gelu"]
    assert_equivalent(before, after)


@pytest.mark.parametrize(
    ("scaled", "tail"),
    [
        ("Div(x, two)", "m = Mul(x, p)\n y = Mul(m, h)"),
        ("Div(x, r)", "m = Mul(x, p)\n y = Mul(m, two)"),
        ("Div(x, r)", "m = Mul(s, p)\n y = Mul(m, h)"),
        ("Div(x, r)", "m = Mul(x, p)\n n = Mul(m, h)\n y = Add(n, e)"),
        ("Div(r, x)", "m = Mul(x, p)\n y = Mul(m, h)"),
    ],
)
def test_what_is_none_stays(scaled: str, tail: str) -> None:
    assert_unchanged(GRAPH.format(scaled, tail), MergeGelu())


def test_older_opsets_have_no_such_operator() -> None:
    text = GRAPH.format("Div(x, r)", "m = Mul(x, p)\n y = Mul(m, h)")
    assert_unchanged(text.replace(": 20]", ": 19]"), MergeGelu())
