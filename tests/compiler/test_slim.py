"""Models without names and notes compute the same, and what others share stays as it was."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.slim import slimmed
from lwc.models import digits

# 'a' is a name that slimming would give: as an input, an output and a node it must stay.
BRANCHES = """<ir_version: 10, opset_import: ["" : 21]>
agraph (float[4] a, bool which) => (float[4] b) <float[4] weight_of_a_long_name = {1, 2, 3, 4}> {
    scaled_by_a_long_name = Mul(a, weight_of_a_long_name)
    b = If (which) <
        then_branch = once () => (float[4] inner) { inner = Add(scaled_by_a_long_name, weight_of_a_long_name) },
        else_branch = twice () => (float[4] other) {
            between = Neg(scaled_by_a_long_name)
            other = Add(between, a)
        }
    >
}"""


def with_notes(proto: onnx.ModelProto) -> onnx.ModelProto:
    for node in proto.graph.node:
        node.doc_string = "a note " * 50
        node.metadata_props.add(key="stack", value="a trace " * 50)
        node.metadata_props.add(key="lwc.site", value="own")
    return proto


def run(model: Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(model.to_proto().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("which", [False, True])
def test_branches_compute_the_same_under_short_names(which: bool) -> None:
    model = Model.from_proto(with_notes(onnx.parser.parse_model(BRANCHES)))
    slim = slimmed(model, ())
    feeds = {"a": np.array([1, -2, 3, 0], np.float32), "which": np.array(which)}
    np.testing.assert_array_equal(run(model, feeds)[0], run(slim, feeds)[0])
    text = slim.to_proto().SerializeToString()
    assert b"long_name" not in text
    assert b"a note" not in text
    assert b"a trace" not in text
    assert b"lwc.site" in text
    onnx.checker.check_model(slim.to_proto(), full_check=True)


def test_the_model_itself_keeps_its_names() -> None:
    model = Model.from_proto(with_notes(onnx.parser.parse_model(BRANCHES)))
    before = model.to_proto().SerializeToString(deterministic=True)
    slimmed(model, ())
    assert model.to_proto().SerializeToString(deterministic=True) == before


def test_names_that_are_spoken_of_stay() -> None:
    model = Model.open(digits.path("transformer"))
    names = [node.name for node in model.graph if node.op_type == "MatMul"]
    slim = slimmed(model, names[:2])
    assert [node.name for node in slim.graph if node.name] == names[:2]
    assert [value.name for value in slim.graph.inputs] == [value.name for value in model.graph.inputs]
    assert [value.name for value in slim.graph.outputs] == [value.name for value in model.graph.outputs]
    sample = next(iter(digits.samples("test")))
    feeds = {value.name: sample[value.name] for value in model.graph.inputs}
    for one, other in zip(run(model, feeds), run(slim, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_initializer_may_already_have_a_name_that_is_given_to_another() -> None:
    text = BRANCHES.replace("weight_of_a_long_name", "c").replace("scaled_by_a_long_name", "d").replace("between", "e")
    model = Model.from_proto(onnx.parser.parse_model(text))
    feeds = {"a": np.ones(4, np.float32), "which": np.array(True)}
    np.testing.assert_array_equal(run(model, feeds)[0], run(slimmed(model, ()), feeds)[0])


def test_initializers_say_their_type_and_shape_once() -> None:
    slim = slimmed(Model.from_proto(onnx.parser.parse_model(BRANCHES)), ())
    assert not slim.to_proto().graph.value_info
    onnx.checker.check_model(slim.to_proto(), full_check=True)
