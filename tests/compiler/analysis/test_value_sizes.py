import numpy as np
import onnx

from lwc.compiler.analysis.sites import macs
from lwc.compiler.analysis.value_sizes import sized_for, value_sizes
from lwc.compiler.core.model import Model

SAMPLE = {"x": np.zeros((5, 6), np.float32), "label": np.zeros(1, np.int64)}


def model() -> Model:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 6] x, float[6, 4] w) => (float[N, 4] y) '
    return Model.from_proto(onnx.parser.parse_model(text + "{ y = MatMul (x, w) }"))


def test_sizes_are_those_of_the_sample_and_labels_are_no_inputs() -> None:
    assert value_sizes(model(), SAMPLE) == {"y": 5 * 4 * 4}


def test_work_is_counted_with_the_sizes_of_a_sample_once_they_are_known() -> None:
    unsized = model()
    assert [macs(node) for node in unsized.graph] == [6 * 4]
    assert [macs(node) for node in sized_for(unsized, SAMPLE).graph] == [5 * 6 * 4]
    assert [macs(node) for node in unsized.graph] == [6 * 4]


def test_sizes_that_contradict_the_model_leave_it_as_it_was() -> None:
    assert value_sizes(model(), {"x": np.zeros((5, 7), np.float32)}) == {}
