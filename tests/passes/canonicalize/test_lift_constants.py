from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.testing import CONTEXT, assert_rewrites, assert_unchanged, parse
from lwc.passes.canonicalize.lift_constants import LiftConstants


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value = float[2] {1, 2}", np.array([1, 2], np.float32)),
        ("value_int = 3", np.array(3, np.int64)),
        ("value_ints = [3, 4]", np.array([3, 4], np.int64)),
        ("value_float = 1.5", np.array(1.5, np.float32)),
        ("value_floats = [1.5, 2.5]", np.array([1.5, 2.5], np.float32)),
        ('value_string = "ab"', np.array(b"ab", object)),
        ('value_strings = ["ab", "c"]', np.array([b"ab", b"c"], object)),
    ],
)
def test_every_form_of_a_constant_becomes_an_initializer(attribute: str, expected: np.ndarray) -> None:
    model = parse(f"g () => (y) {{ c = Constant<{attribute}>()\n y = Identity(c) }}")
    LiftConstants().run(model, CONTEXT)
    tensor = model.graph.initializers["c"].const_value
    assert tensor is not None
    assert tensor.numpy().shape == expected.shape
    assert tensor.numpy().tolist() == expected.tolist()
    if expected.dtype != object:
        assert tensor.numpy().dtype == expected.dtype
    stored = ir.to_proto(model).graph.initializer[0]
    assert list(stored.dims) == list(expected.shape)


def test_readers_read_the_initializer() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) { c = Constant<value = float {1}>()\n y = Add(x, c) }",
        LiftConstants(),
        "g (float[2] x) => (float[2] y) <float c = {1}> { y = Add(x, c) }",
    )


def test_a_constant_that_is_a_graph_output_stays() -> None:
    assert_unchanged("g () => (float y) { y = Constant<value = float {1}>() }", LiftConstants())


def test_a_constant_of_a_branch_is_lifted_within_it() -> None:
    model = parse(
        "g (bool c) => (float y) { y = If(c) <"
        "then_branch = p () => (float u) { k = Constant<value = float {1}>()\n u = Neg(k) },"
        "else_branch = q () => (float v) { v = Constant<value = float {2}>() }> }"
    )
    assert LiftConstants().run(model, CONTEXT).changed
    branch = next(iter(model.graph)).attributes["then_branch"].as_graph()
    assert list(branch.initializers) == ["k"]
    assert [node.op_type for node in branch] == ["Neg"]
