"""Values get the types and shapes that can be known, weights are not copied for it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from lwc.compiler.core import inference
from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.skeleton import initialized, skeleton, standing_in


def annotated(text: str) -> dict[str, ir.Value]:
    """All values of all graphs by name, after inference."""
    model = ir.from_proto(parser.parse_model(text))
    infer_shapes(model)
    return {value.name or "": value for node in model.graph.all_nodes() for value in node.outputs}


def shape(value: ir.Value) -> list[int | str | None] | None:
    return None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]


HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "f" : 1]>'


def test_follows_shapes_through_shape_arithmetic_and_keeps_symbols() -> None:
    values = annotated(
        HEADER
        + """g (float[batch, 3, 4] x) => (float[p, q] y) <int64[1] zero = {0}, int64[1] rest = {-1}> {
            s = Shape(x)
            b = Gather(s, zero)
            t = Concat <axis = 0> (b, rest)
            r = Reshape(x, t)
            e = Relu(r)
            y = Identity(e)
        }"""
    )
    assert values["e"].dtype == ir.DataType.FLOAT
    found = shape(values["e"])
    assert found is not None
    assert found[0] == "batch"


def test_annotates_subgraphs_and_loop_bodies() -> None:
    values = annotated(
        HEADER
        + """g (float[2, 3] x, bool c, int64 n) => (float[N, M] z) {
            y = If (c) <
                then_branch = t () => (float[A, B] p) { k = Neg(x) p = Abs(k) },
                else_branch = e () => (float[C, D] q) { q = Transpose(x) }
            >
            z = Loop (n, c, x) <
                body = b (int64 i, bool go, float[2, 3] u) => (bool on, float[2, 3] w) {
                    on = Identity(go) v = Neg(u) w = Abs(v)
                }
            >
        }"""
    )
    assert shape(values["k"]) == [2, 3]
    assert shape(values["q"]) == [3, 2]
    assert shape(values["v"]) == [2, 3]


def test_annotates_what_functions_return() -> None:
    values = annotated(
        HEADER
        + """g (float[2, 3] x) => (float[N, M] y) { a = f.turn(x) y = Neg(a) }
        <domain: "f", opset_import: ["" : 17]> turn (u) => (v) { v = Transpose(u) }"""
    )
    assert shape(values["a"]) == [3, 2]


@pytest.mark.parametrize(
    ("node", "outputs"),
    [
        ("a = com.microsoft.FastGelu(x)", ["a"]),
        ("a, , , b = com.microsoft.SkipLayerNormalization <epsilon = 1e-5> (x, x, g)", ["a", "b"]),
        ("a = SimplifiedLayerNormalization(x, g)", ["a"]),
    ],
)
def test_looks_past_operators_of_runtimes(node: str, outputs: list[str]) -> None:
    values = annotated(
        HEADER + f"g (float[N, 4] x, float[4] g) => (float[P, Q] y) {{ {node} d = Neg(a) y = Transpose(d) }}"
    )
    for name in outputs:
        assert shape(values[name]) == ["N", 4]
        assert values[name].dtype == ir.DataType.FLOAT
    assert shape(values["d"]) == ["N", 4]


def test_looks_past_a_layer_normalization_fused_before_it_was_standard() -> None:
    values = annotated(
        """<ir_version: 7, opset_import: ["" : 11]>
        g (float[N, 4] x, float[4] g) => (float[P, Q] y) { a = LayerNormalization(x, g) y = Neg(a) }"""
    )
    assert shape(values["a"]) == ["N", 4]


def test_looks_past_a_fused_convolution() -> None:
    values = annotated(
        HEADER
        + """g (float[N, 3, 8, 8] x, float[5, 3, 3, 3] w) => (float[P, Q, R, S] y) {
            a = com.microsoft.FusedConv <activation = "Relu", kernel_shape = [3, 3], strides = [2, 2]> (x, w)
            y = Neg(a)
        }"""
    )
    assert shape(values["a"]) == ["N", 5, 3, 3]


def test_leaves_the_graph_itself_alone() -> None:
    model = ir.from_proto(
        parser.parse_model(
            HEADER + "g (float[N, 4] x) => (float[P, Q] y) { a = com.microsoft.Gelu(x) y = Transpose(a) }"
        )
    )
    infer_shapes(model)
    assert [(node.domain, node.op_type) for node in model.graph] == [("com.microsoft", "Gelu"), ("", "Transpose")]
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_takes_a_function_named_like_a_runtime_operator_for_what_it_is() -> None:
    values = annotated(
        HEADER
        + """g (float[2, 3] x) => (float[N, M] y) { a = f.Gelu(x) y = Neg(a) }
        <domain: "f", opset_import: ["" : 17]> Gelu (u) => (v) { v = Transpose(u) }"""
    )
    assert shape(values["a"]) == [3, 2]


def test_leaves_what_contradicts_itself() -> None:
    values = annotated(
        HEADER + "g (float[2, 3] x, float[4, 5] z) => (float[N, M] y) { a = MatMul(x, z) b = Neg(x) y = Abs(a) }"
    )
    assert shape(values["b"]) == [2, 3]


def test_survives_a_failure_of_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(inference.onnx.shape_inference, "infer_shapes", fail)
    values = annotated(HEADER + "g (float[2] x) => (float[N] y) { a = Neg(x) y = Abs(a) }")
    assert values["a"].shape is None


@pytest.fixture
def weighted() -> ir.Model:
    model = ir.from_proto(
        parser.parse_model(HEADER + "g (float[N, 300] x) => (float[P, Q] y) { a = MatMul(x, w) y = Neg(a) }")
    )
    for name, size in (("w", (300, 40)), ("small", (3,))):
        tensor = ir.tensor(np.ones(size, np.float32), name=name)
        model.graph.register_initializer(ir.val(name, const_value=tensor))
    for node in model.graph:
        for k, value in enumerate(node.inputs):
            if value is not None and value.name == "w":
                node.replace_input_with(k, model.graph.initializers["w"])
    return model


def test_uses_the_shapes_of_weights_without_their_bytes(weighted: ir.Model) -> None:
    proto = skeleton(weighted)
    assert proto.ByteSize() < 1000
    infer_shapes(weighted)
    assert [shape(value) for node in weighted.graph for value in node.outputs] == [["N", 40], ["P", 40]]


def test_a_skeleton_leaves_the_weights_of_the_model(weighted: ir.Model) -> None:
    before = dict(initialized(weighted))
    skeleton(weighted)
    assert dict(initialized(weighted)) == before


def test_stand_ins_leave_when_something_fails(weighted: ir.Model) -> None:
    value = weighted.graph.initializers["w"]
    tensor = value.const_value

    def fail() -> None:
        with standing_in({value: ir.tensor(np.zeros(1, np.float32))}):
            assert value.const_value is not tensor
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert value.const_value is tensor


def test_finds_initializers_of_subgraphs_and_of_subgraphs_in_functions() -> None:
    model = ir.from_proto(
        parser.parse_model(
            HEADER
            + """g (float[2] x, bool c) => (float[2] y) <float[1] one = {1.0}> { y = f.pick(x, c) }
            <domain: "f", opset_import: ["" : 17]> pick (x, c) => (v) {
                v = If (c) <
                    then_branch = t () => (float[2] p) <float[1] two = {2.0}> { p = Add(x, two) },
                    else_branch = e () => (float[2] q) <float[1] three = {3.0}> { q = Add(x, three) }
                >
            }"""
        )
    )
    assert [value.name for value, _ in initialized(model)] == ["one", "two", "three"]
