"""Dynamic inputs are fixed everywhere, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import pytest
from onnx import parser

from lwc.compiler.analysis.shapes import fix_dimensions, infer_shapes
from lwc.compiler.core.errors import UsageError

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, H] x, float[N, M] z, bool c) => (float[A, B] y, float[N, M] w) <float[1] v = {1.0}> {
    f = Flatten(x)
    t = If (c) <
        then_branch = t () => (float[N, P] p) { p = Neg(f) }, else_branch = e () => (float[N, P] q) { q = Abs(f) }
    >
    y = Add(t, v)
    w = Neg(z)
}"""


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_proto(parser.parse_model(TEXT))
    infer_shapes(model)
    return model


def shapes(model: ir.Model) -> dict[str, list[int | str | None]]:
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    return {
        v.name or "": [d if isinstance(d, int) else d.value for d in v.shape] for v in values if v.shape is not None
    }


def test_symbols_are_kept_until_fixed(model: ir.Model) -> None:
    assert shapes(model)["f"][0] == "N"
    assert shapes(model)["w"] == ["N", "M"]


def test_a_fixed_input_fixes_all_that_follows(model: ir.Model) -> None:
    fix_dimensions(model, {"x": (2, 3, 4)})
    found = shapes(model)
    assert found["x"] == [2, 3, 4]
    assert [found[name] for name in ("f", "p", "q", "t", "y")] == [[2, 12]] * 5


def test_a_symbol_is_fixed_in_the_other_inputs_too(model: ir.Model) -> None:
    fix_dimensions(model, {"x": (2, 3, 4)})
    assert shapes(model)["z"] == [2, "M"]
    assert shapes(model)["w"] == [2, "M"]


def test_several_inputs_can_be_fixed_at_once(model: ir.Model) -> None:
    fix_dimensions(model, {"x": (2, 3, 4), "z": (2, 7)})
    assert shapes(model)["w"] == [2, 7]


def test_a_scalar_stays_one(model: ir.Model) -> None:
    fix_dimensions(model, {"c": ()})
    assert shapes(model)["c"] == []


def test_an_unnamed_dimension_is_fixed_alone() -> None:
    model = ir.from_proto(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[?, 3] x, float[?] z) => (float[?, 3] y) { y = Neg(x) }'
        )
    )
    fix_dimensions(model, {"x": (5, 3)})
    assert shapes(model) == {"x": [5, 3], "z": [None], "y": [5, 3]}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"gone": (1,)}, "The model has no input 'gone'. Its inputs: x, z, c."),
        ({"v": (1,)}, "The model has no input 'v'."),
        ({"x": (2, 3)}, "Input 'x' has 3 dimensions, [N,3,H]; [2, 3] has not."),
        ({"x": (2, 4, 4)}, "Input 'x' of shape [N,3,H] cannot be [2, 4, 4]: a dimension is fixed to 3."),
        (
            {"x": (2, 3, 4), "z": (1, 7)},
            "Input 'z' of shape [N,M] cannot be [1, 7]: a dimension is 'N', which another one makes 2.",
        ),
    ],
)
def test_refuses_shapes_that_contradict_the_model(
    wanted: dict[str, Sequence[int]], sentence: str, model: ir.Model
) -> None:
    before = shapes(model)
    with pytest.raises(UsageError) as caught:
        fix_dimensions(model, wanted)
    assert str(caught.value).startswith(sentence)
    assert shapes(model) == before
