from __future__ import annotations

from lwc.compiler.testing import CONTEXT, assert_unchanged, parse
from lwc.passes.canonicalize.unlist_initializers import UnlistInitializers

GRAPH = (
    '<ir_version: {}, opset_import: ["" : 9]>\n g (float[2] x, float[2] w = {{1, 2}}) => (float[2] y)'
    "{{ y = Add(x, w) }}"
)


def test_initializers_of_ir_version_3_are_no_inputs() -> None:
    model = parse(GRAPH.format(3))
    assert UnlistInitializers().run(model, CONTEXT).changed
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert model.ir_version == 4
    assert "w" in model.graph.initializers
    assert not UnlistInitializers().run(model, CONTEXT).changed


def test_defaults_of_inputs_stay_from_ir_version_4_on() -> None:
    assert_unchanged(GRAPH.format(4), UnlistInitializers())
