from __future__ import annotations

import numpy as np
import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_rewrites, assert_unchanged, parse
from lwc.passes import CANONICALIZE
from lwc.passes.canonicalize.fold_shapes import FoldShapes
from lwc.passes.canonicalize.remove_unused import RemoveUnused

# The shape [first of x, 8, rest] as exporters build it.
DYNAMIC = (
    "g (float[N, 4, M] x) => (float[a, b, c] y) <int64 i = {0}, int64[1] k = {0}, int64[1] eight = {8},"
    "int64[1] rest = {-1}> { r = Relu(x)\n s = Shape(x)\n n = Gather(s, i)\n u = Unsqueeze(n, k)\n"
    "t = Concat<axis=0>(u, eight, rest)\n y = Reshape(r, t) }"
)


def test_a_copied_dimension_becomes_zero() -> None:
    constant_shape = DYNAMIC.replace("rest = {-1}>", "rest = {-1}, int64[3] w = {0, 8, -1}>")
    assert_rewrites(DYNAMIC, FoldShapes(), constant_shape.replace("Reshape(r, t)", "Reshape(r, w)"))


def test_shape_arithmetic_on_known_numbers_becomes_a_constant() -> None:
    model = parse(
        "g (float[2, 3, N] x) => (float[a, b] y) <int64[1] i = {0}, int64[1] j = {1}, int64[1] rest = {-1}> {"
        "s = Shape(x)\n p = Gather(s, i)\n q = Gather(s, j)\n m = Mul(p, q)\n t = Concat<axis=0>(m, rest)\n"
        "y = Reshape(x, t) }"
    )
    FoldShapes().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Reshape"]
    shape = next(iter(model.graph)).inputs[1]
    assert shape is not None
    assert shape.const_value is not None
    assert shape.const_value.numpy().tolist() == [6, -1]


def test_one_unknown_dimension_becomes_minus_one() -> None:
    model = parse(
        "g (float[N, 6] x, float[K] z) => (float[a, b] y) <int64[1] two = {2}> {"
        "s = Shape(z)\n t = Concat<axis=0>(s, two)\n y = Reshape(x, t) }"
    )
    before = model.clone()
    FoldShapes().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Reshape"]
    feeds = {"x": np.ones((3, 6), np.float32), "z": np.ones(9, np.float32)}
    assert_equivalent(before, model, feeds)


def test_two_unknown_dimensions_stay() -> None:
    assert_unchanged(
        "g (float[6, 4] x, float[K, L] z) => (float[a, b] y) { s = Shape(z)\n y = Reshape(x, s) }", FoldShapes()
    )


def test_zero_and_minus_one_do_not_meet_where_nothing_may_have_been_found() -> None:
    assert_unchanged(
        "g (float[K] x, int64[L] z) => (float[a, b] y) <int64[2] e = {-1, 1}, int64[1] i = {0}, int64[1] one = {1}> {"
        "f = NonZero(x)\n r = Transpose<perm=[1, 0]>(f)\n c = Cast<to=1>(r)\n s = Shape(c)\n n = Gather(s, i)\n"
        "l = Shape(z)\n t = Concat<axis=0>(n, l)\n y = Reshape(c, t) }",
        FoldShapes(),
    )


def test_an_expand_to_its_own_shape_goes() -> None:
    assert_rewrites(
        "g (float[N, M] x) => (float[N, M] y) { r = Relu(x)\n s = Shape(x)\n e = Expand(r, s)\n y = Neg(e) }",
        FoldShapes(),
        "g (float[N, M] x) => (float[N, M] y) { r = Relu(x)\n s = Shape(x)\n y = Neg(r) }",
    )


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("e = Expand(b, s)\n y = Add(e, x)", ["Add"]),
        ("e = Expand(b, s)\n y = Where(c, e, x)", ["Where"]),
        ("e = Expand(b, s)\n y = Neg(e)", ["Shape", "Expand", "Neg"]),
        ("e = Expand(b, s)\n y = Add(e, b)", ["Shape", "Expand", "Add"]),
    ],
)
def test_an_expand_before_an_operator_that_broadcasts_goes(body: str, left: list[str]) -> None:
    model = parse(
        f"g (float[N, M] x, float[1, M] b, bool[N, 1] c) => (float[d, e] y) {{ s = Shape(x)\n {body} }}"
    )
    before = model.clone()
    FoldShapes().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == left
    assert_equivalent(before, model)


def test_views_that_lead_back_to_the_first_shape_go() -> None:
    model = parse(
        "g (float[N, 6, M] x) => (float[N, 6, M] y) <int64[2] flat = {-1, 6}> { r = Relu(x)\n s = Shape(x)\n"
        "v = Reshape(r, flat)\n w = Reshape(v, s)\n y = Neg(w) }"
    )
    FoldShapes().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"]


def test_a_vector_of_dimensions_is_computed_once() -> None:
    model = parse(
        "g (float[N, M] x) => (int64[a] y, int64[b] z) { r = Relu(x)\n s = Shape(x)\n t = Shape(r)\n"
        "y = Neg(s)\n z = Abs(t) }"
    )
    FoldShapes().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Shape", "Neg", "Abs"]


def test_dimensions_that_exporters_give_a_common_placeholder_are_not_equal() -> None:
    text = "g (float[{0}, {0}] x) => (float[a, b] y) {{ r = Transpose(x)\n s = Shape(x)\n y = Reshape(r, s) }}"
    for name, nodes in (("N", ["Transpose"]), ("unknown", ["Transpose", "Shape", "Reshape"])):
        model = parse(text.format(name))
        FoldShapes().run(model, CONTEXT)
        RemoveUnused().run(model, CONTEXT)
        assert [node.op_type for node in model.graph] == nodes


def test_names_inside_a_loop_are_not_trusted() -> None:
    assert_unchanged(
        "g (int64 n, bool c, float[N, 2] x) => (float[K, 2] y) { y = Loop(n, c, x) <body = b (int64 i, bool g,"
        "float[N, 2] s) => (bool h, float[N, 2] t) { h = Identity(g)\n d = Shape(x)\n r = Relu(s)\n"
        "t = Reshape(r, d) }> }",
        FoldShapes(),
    )


def test_allowzero_is_dropped_where_no_dimension_is_zero() -> None:
    model = parse(
        "g (float[N, 6] x) => (float[a, b, c] y) <int64[1] i = {0}, int64[2] r = {2, 3}> { s = Shape(x)\n"
        "n = Gather(s, i)\n t = Concat<axis=0>(n, r)\n y = Reshape<allowzero=1>(x, t) }"
    )
    before = model.clone()
    for step in CANONICALIZE:
        step.run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Reshape"]
    assert_equivalent(before, model)
