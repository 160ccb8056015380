from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.merge_hard_sigmoid import MergeHardSigmoid

CONSTANTS = "float three = {{3}}, float z = {{0}}, float six = {{6}}, float sixth = {{0.16666667}}, float five = {{5}}"
GRAPH = "g (float[2, 8] x) => (float[2, 8] y) <" + CONSTANTS + "> {{ a = Add(x, three)\n c = Clip(a, z, six)\n {0} }}"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = Div(c, six)", ["HardSigmoid"]),
        ("y = Mul(c, sixth)", ["HardSigmoid"]),
        ("m = Mul(x, c)\n y = Div(m, six)", ["HardSigmoid", "Mul"]),
        ("m = Mul(c, x)\n y = Mul(sixth, m)", ["HardSigmoid", "Mul"]),
    ],
)
def test_a_clip_that_is_a_hard_sigmoid_becomes_one(body: str, left: list[str]) -> None:
    before = parse(GRAPH.format(body))
    after = before.clone()
    assert_keeps_promises(after, MergeHardSigmoid(), CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert [node.op_type for node in after.graph] == left
    assert_equivalent(before, after)


@pytest.mark.parametrize(
    "body",
    ["y = Div(c, five)", "y = Div(six, c)", "d = Div(c, six)\n y = Add(d, c)", "m = Mul(a, c)\n y = Div(m, six)"],
)
def test_what_is_none_stays(body: str) -> None:
    assert_unchanged(GRAPH.format(body), MergeHardSigmoid())
