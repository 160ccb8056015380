from __future__ import annotations

import numpy as np
import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.merge_clips import MergeClips

CONSTANTS = "float m = {{-2}}, float z = {{0}}, float a = {{1}}, float b = {{3}}, float c = {{6}}"
GRAPH = "g (float[8] x) => (float[8] y) <" + CONSTANTS + "> {{ {0} }}"
VALUES = np.array([-np.inf, -5, -1, 0.5, 2, 5, 9, np.inf], np.float32)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("t = Relu(x)\n y = Relu(t)", ["Relu"]),
        ("t = Clip(x, m, b)\n y = Relu(t)", ["Clip"]),
        ("t = Relu(x)\n y = Clip(t, , c)", ["Clip"]),
        ("t = Relu(x)\n y = Clip(t, m, c)", ["Clip"]),
        ("t = Clip(x, z, c)\n y = Clip(t, a, b)", ["Clip"]),
        ("t = Clip(x, z, a)\n y = Clip(t, b, c)", ["Clip"]),
        ("t = Clip(x, b, c)\n y = Clip(t, z, a)", ["Clip"]),
        ("t = Clip(x, a)\n y = Relu(t)", ["Clip"]),
        ("t = Clip(x, m)\n y = Relu(t)", ["Clip"]),
        ("t = Relu(x)\n y = Clip(t, m)", ["Clip"]),
        ("t = Relu(x)\n s = Relu(t)\n u = Clip(s, m, c)\n y = Relu(u)", ["Clip"]),
    ],
)
def test_two_limits_become_one(body: str, left: list[str]) -> None:
    before = parse(GRAPH.format(body))
    after = before.clone()
    assert_keeps_promises(after, MergeClips(), CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert [node.op_type for node in after.graph] == left
    assert_equivalent(before, after, {"x": VALUES})


def test_understands_the_attributes_of_old_opsets() -> None:
    before = parse(
        '<ir_version: 4, opset_import: ["" : 10]>\n g (float[8] x) => (float[8] y) {'
        "t = Clip<min=-1.0>(x)\n y = Clip<min=0.0, max=6.0>(t) }"
    )
    after = before.clone()
    MergeClips().run(after, CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert len(after.graph) == 1
    assert_equivalent(before, after, {"x": VALUES})


@pytest.mark.parametrize(
    "body",
    [
        "t = Relu(x)\n u = Exp(t)\n y = Relu(u)",
        "t = Clip(x, c, a)\n y = Relu(t)",  # low above high
        "t = Relu(x)\n r = ReduceMax<keepdims=0>(x)\n y = Clip(t, z, r)",
    ],
)
def test_what_is_not_a_constant_interval_stays(body: str) -> None:
    assert_unchanged(GRAPH.format(body), MergeClips())
