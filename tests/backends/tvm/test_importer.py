import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model


def test_refusal_names_the_node_and_the_reason() -> None:
    proto = model("agraph (float[2, 2] x) => (float d) { [det_7] d = Det (x) }")
    with pytest.raises(UnsupportedOperator, match=r"'det_7' \(Det\): no rule imports this operator"):
        import_model(Model.from_proto(proto))


def test_refusal_of_strings_names_the_input() -> None:
    proto = model("agraph (string[2] words) => (string[2] y) { y = Identity (words) }")
    with pytest.raises(UnsupportedOperator, match="input 'words': it holds strings"):
        import_model(Model.from_proto(proto))


def test_dimensions_without_a_name_may_differ() -> None:
    text = "agraph (float[n, ?] x, float[?, m] y) => (float[n, m] z) { z = MatMul (x, y) }"
    rng = np.random.default_rng(0)
    assert_agrees(text, {"x": rng.random((2, 3), np.float32), "y": rng.random((3, 5), np.float32)})


def test_what_is_computed_from_a_static_shape_is_a_constant() -> None:
    text = """agraph (float[2, 3, 4] x) => (float[2, 12] y) {
        size = Shape <start = 0, end = 1> (x)
        rest = Constant <value_ints = [-1]> ()
        shape = Concat <axis = 0> (size, rest)
        y = Reshape (x, shape)
    }"""
    script = import_model(Model.from_proto(model(text))).script()
    assert "R.reshape(x, R.shape([2, 12]))" in script
    assert "concat" not in script


def test_a_function_of_the_model_overrides_an_operator_of_that_name() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    agraph (float[3] x) => (float[3] y) { y = own.Relu <factor = 3.0> (x) }
    <opset_import: ["" : 17], domain: "own">
    Relu <factor> (x) => (y) {
        c = Constant <value_float : float = @factor> ()
        y = Mul (x, c)
    }"""
    assert_agrees(text, {"x": np.array([-1, 0, 2], np.float32)})


def test_an_operator_that_onnx_defines_by_a_body_is_expanded() -> None:
    assert_agrees("agraph (float[3] x) => (float[3] y) { y = Celu <alpha = 2.0> (x) }",
                  {"x": np.array([-1, 0, 2], np.float32)})  # fmt: skip


def test_results_of_four_bits_are_refused_rather_than_wrong() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    agraph (float[4] x) => (int4[4] y) <float s = {0.5}, int4 z = {1}> { y = QuantizeLinear (x, s, z) }"""
    with pytest.raises(UnsupportedOperator, match="fewer than 8 bits"):
        import_model(Model.from_proto(model(text)))
