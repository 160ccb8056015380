from __future__ import annotations

import pytest

from lwc.compiler.testing import assert_rewrites, assert_unchanged
from lwc.passes.canonicalize.remove_no_ops import RemoveNoOps

# One statement t = f(x) for x [2, 3, 4, 5], surrounded by Relu and Neg.
NO_OPS = {
    "identity": "t = Identity(a)",
    "dropout": "t = Dropout(a)",
    "cast": "t = Cast<to=1>(a)",
    "transpose": "t = Transpose<perm=[0, 1, 2, 3]>(a)",
    "single concat": "t = Concat<axis=1>(a)",
    "single sum": "t = Sum(a)",
    "max pool of one": "t = MaxPool<kernel_shape=[1, 1]>(a)",
}
WITH_CONSTANTS = {
    "add zero": ("float z = {0}", "t = Add(a, z)"),
    "zero plus": ("float z = {0}", "t = Add(z, a)"),
    "subtract zeros": ("float[3, 1, 1] z = {0, 0, 0}", "t = Sub(a, z)"),
    "multiply by ones": ("float[1, 1, 1, 5] z = {1, 1, 1, 1, 1}", "t = Mul(a, z)"),
    "divide by one": ("float z = {1}", "t = Div(a, z)"),
    "power of one": ("float z = {1}", "t = Pow(a, z)"),
    "reshape by zeros": ("int64[4] s = {0, 0, -1, 5}", "t = Reshape(a, s)"),
    "expand to ones": ("int64[2] s = {1, 5}", "t = Expand(a, s)"),
    "full slice": ("int64[1] b = {0}, int64[1] e = {9223372036854775807}, int64[1] k = {2}", "t = Slice(a, b, e, k)"),
    "slice to the end": ("int64[1] b = {0}, int64[1] e = {4}, int64[1] k = {2}", "t = Slice(a, b, e, k)"),
    "pad nothing": ("int64[8] p = {0, 0, 0, 0, 0, 0, 0, 0}", "t = Pad(a, p)"),
    "tile once": ("int64[4] r = {1, 1, 1, 1}", "t = Tile(a, r)"),
    "resize by one": ("float[4] f = {1, 1, 1, 1}", "t = Resize<mode=\"linear\">(a, , f)"),
    "dropout that does not train": ("float r = {0.5}, bool m = {0}", "t = Dropout(a, r, m)"),
}
EFFECTIVE = {
    "neg": ("float z = {0}", "t = Sub(z, a)"),
    "reciprocal": ("float z = {1}", "t = Div(z, a)"),
    "widening zero": ("float[6, 1, 1, 1, 1] z = {0, 0, 0, 0, 0, 0}", "t = Add(a, z)"),
    "partial slice": ("int64[1] b = {0}, int64[1] e = {3}, int64[1] k = {2}", "t = Slice(a, b, e, k)"),
    "backward slice": (
        "int64[1] b = {-1}, int64[1] e = {-100}, int64[1] k = {2}, int64[1] s = {-1}",
        "t = Slice(a, b, e, k, s)",
    ),
    "transposed": ("float z = {0}", "t = Transpose<perm=[0, 1, 3, 2]>(a)"),
    "other type": ("float z = {0}", "i = Cast<to=6>(a)\n t = Cast<to=1>(i)"),
    "training dropout": ("float r = {0.5}, bool m = {1}", "t = Dropout(a, r, m)"),
    "half-pixel for nearest": (
        "float[4] f = {1, 1, 1, 1}",
        "t = Resize<mode=\"nearest\", coordinate_transformation_mode=\"tf_half_pixel_for_nn\">(a, , f)",
    ),
}


def graph(statement: str, constants: str = "") -> str:
    declared = f"<{constants}>" if constants else ""
    return f"g (float[2, 3, 4, 5] x) => (float[d, e, f, h] y) {declared} {{ a = Relu(x)\n {statement}\n y = Neg(t) }}"


@pytest.mark.parametrize("statement", NO_OPS.values(), ids=NO_OPS)
def test_removes_a_node_that_hands_its_input_through(statement: str) -> None:
    assert_rewrites(graph(statement), RemoveNoOps(), graph("t = Relu(x)").replace("a = Relu(x)\n", ""))


@pytest.mark.parametrize("name", WITH_CONSTANTS)
def test_removes_a_node_whose_constants_have_no_effect(name: str) -> None:
    constants, statement = WITH_CONSTANTS[name]
    assert_rewrites(graph(statement, constants), RemoveNoOps(), graph("t = Relu(x)").replace("a = Relu(x)\n", ""))


@pytest.mark.parametrize("name", EFFECTIVE)
def test_keeps_a_node_that_has_an_effect(name: str) -> None:
    constants, statement = EFFECTIVE[name]
    assert_unchanged(graph(statement, constants), RemoveNoOps())


def test_a_graph_output_keeps_its_name() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) { a = Relu(x)\n y = Identity(a) }",
        RemoveNoOps(),
        "g (float[2] x) => (float[2] y) { y = Relu(x) }",
    )


def test_keeps_what_stands_between_an_input_and_an_output() -> None:
    assert_unchanged("g (float[2] x) => (float[2] y) { y = Identity(x) }", RemoveNoOps())


def test_keeps_one_of_two_outputs_that_are_the_same() -> None:
    assert_unchanged("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n z = Identity(y) }", RemoveNoOps())


def test_keeps_a_dropout_whose_mask_is_read() -> None:
    assert_unchanged(
        "g (float[2] x) => (float[2] y, bool[2] m) { a = Relu(x)\n t, m = Dropout(a)\n y = Neg(t) }", RemoveNoOps()
    )


def test_keeps_an_addition_whose_zero_callers_can_override() -> None:
    assert_unchanged(
        "g (float[2] x, float z = {0}) => (float[2] y) { a = Relu(x)\n t = Add(a, z)\n y = Neg(t) }", RemoveNoOps()
    )


def test_keeps_an_operator_of_another_domain() -> None:
    assert_unchanged(
        '<ir_version: 8, opset_import: ["" : 17, "other" : 1]>\n'
        "g (float[2] x) => (float[2] y) { a = Relu(x)\n t = other.Identity(a)\n y = Neg(t) }",
        RemoveNoOps(),
    )


def test_removes_inside_a_branch() -> None:
    text = (
        "g (bool c, float[2] x) => (float[2] y) {{ y = If(c) <"
        "then_branch = p () => (float[2] u) {{ t = Relu(x)\n {0} }},"
        "else_branch = q () => (float[2] v) {{ v = Neg(x) }}> }}"
    )
    assert_rewrites(text.format("u = Identity(t)"), RemoveNoOps(), text.format("").replace("t = Relu", "u = Relu"))
