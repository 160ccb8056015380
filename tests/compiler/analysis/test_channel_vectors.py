from __future__ import annotations

import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channel_rules.vectors import known_integers
from lwc.models.tiny.text import graph


def made(nodes: str) -> ir.Value:
    """The value y of a graph that reads x [N, 4, 6]."""
    model = graph(
        f"""(float[N,4,6] x, int64[2] v) => (y) <int64 zero = {{0}}, int64 two = {{2}}, int64[1] first = {{0}},
        int64[1] last = {{2}}, int64[1] end = {{9}}, int64[2] some = {{-1, 0}}, int64[1] ten = {{10}}> {{ {nodes} }}"""
    )()
    return next(value for node in model.graph for value in node.outputs if value.name == "y")


@pytest.mark.parametrize(
    ("nodes", "elements"),
    [
        ("y = Shape(x)", [None, 4, 6]),
        ("y = Shape <start = 1> (x)", [4, 6]),
        ("s = Shape(x) y = Gather(s, some)", [6, None]),
        ("s = Shape(x) g = Gather(s, two) u = Unsqueeze(g, first) y = Concat <axis = 0> (u, v)", [6, None, None]),
        ("s = Shape(x) y = Slice(s, first, last)", [None, 4]),
        ("s = Shape(x) c = Cast <to = 6> (s) y = Identity(c)", [None, 4, 6]),
        ("y = Identity(v)", [None, None]),
        ("s = Shape(x) t = Mul(s, ten) y = Concat <axis = 0> (t, ten)", None),
    ],
)
def test_elements_are_known_as_far_as_sizes_are(nodes: str, elements: list[int | None] | None) -> None:
    assert known_integers(made(nodes)) == elements


def test_a_long_way_back_is_not_followed() -> None:
    nodes = "s = Shape(x) " + " ".join(f"i{k} = Identity({f'i{k - 1}' if k else 's'})" for k in range(40))
    assert known_integers(made(f"{nodes} y = Identity(i39)")) is None
