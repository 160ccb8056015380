"""A model is opened, forked and saved; its forks share tensors and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, parser

from lwc.compiler.core.errors import BadExternalData, InvalidGraph
from lwc.compiler.core.model import Model
from lwc.compiler.core.storage import model_from_proto

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2] x, bool c) => (float[N, 2] y) <float[2] w = {1.0, 2.0}, int64 n = {3}> {
    a = Add(x, w)
    y = If (c) <
        then_branch = t () => (float[N, 2] p) <float[1] v = {5.0}> { p = Mul(a, v) },
        else_branch = e () => (float[N, 2] q) { q = Neg(a) }
    >
}"""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "named.onnx"
    path.write_bytes(parser.parse_model(TEXT).SerializeToString())
    return Model.open(str(path))


def test_is_named_after_its_file(model: Model, tmp_path: Path) -> None:
    assert model.name == "named"
    assert model.source == tmp_path / "named.onnx"


def test_counts_parameters_of_subgraphs_too(model: Model) -> None:
    assert model.parameters() == 2 + 1 + 1


def test_lists_nodes_of_subgraphs_too(model: Model) -> None:
    assert [node.op_type for node in model.nodes()] == ["Add", "If", "Mul", "Neg"]


def test_knows_its_opset(model: Model) -> None:
    assert model.opset == 17


def test_has_no_opset_without_the_standard_domain() -> None:
    text = '<ir_version: 8, opset_import: ["com.x" : 1]> g (float[1] x) => (float[1] y) { y = com.x.F(x) }'
    assert Model.from_proto(parser.parse_model(text)).opset == 0


def test_a_fork_shares_tensors(model: Model) -> None:
    fork = model.fork()
    assert fork.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value
    assert fork.digest() == model.digest()


def test_a_changed_fork_leaves_the_model(model: Model) -> None:
    before, text = model.digest(), str(model.to_proto())
    fork = model.fork()
    fork.graph.initializers["w"].const_value = ir.tensor(np.zeros(2, np.float32), name="w")
    for node in fork.nodes():
        node.op_type = {"Neg": "Abs", "Mul": "Div"}.get(node.op_type, node.op_type)
    assert fork.digest() != before
    assert model.digest() == before
    assert str(model.to_proto()) == text


def test_to_proto_holds_the_weights_of_external_data(model: Model, tmp_path: Path) -> None:
    large = np.arange(2000, dtype=np.float32)
    model.graph.register_initializer(ir.val("large", const_value=ir.tensor(large, name="large")))
    model.save(tmp_path / "saved.onnx", external_data=True)
    proto = Model.open(tmp_path / "saved.onnx").to_proto()
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "large")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), large)


def test_saving_keeps_the_digest(model: Model, tmp_path: Path) -> None:
    for external in (False, True):
        model.save(tmp_path / "saved.onnx", external_data=external)
        assert Model.open(tmp_path / "saved.onnx").digest() == model.digest()


def test_a_proto_in_memory_is_checked_and_left_alone() -> None:
    proto = parser.parse_model(TEXT.replace("Add(x, w)", "ai.onnx.Add(x, w)"))
    before = proto.SerializeToString()
    built = model_from_proto(proto, "mine")
    assert [node.domain for node in built.graph.all_nodes()] == ["", "", "", ""]
    assert proto.SerializeToString() == before
    proto.graph.node[0].input[0] = "ghost"
    with pytest.raises(InvalidGraph, match=r"mine: .* reads 'ghost'"):
        model_from_proto(proto, "mine")


def test_a_proto_in_memory_cannot_have_external_data() -> None:
    proto = parser.parse_model(TEXT)
    tensor = onnx.TensorProto(name="e", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    proto.graph.initializer.append(tensor)
    with pytest.raises(BadExternalData, match="the model came without its file"):
        model_from_proto(proto, "mine")


def test_dynamic_shapes_are_kept(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "saved.onnx")
    saved = onnx.load(str(tmp_path / "saved.onnx"))
    assert [helper.printable_value_info(value) for value in saved.graph.input] == ["%x[FLOAT, Nx2]", "%c[BOOL, scalar]"]


def test_bytes_of_weights_are_those_that_a_file_holds() -> None:
    shared = ir.tensor(np.zeros((2, 3), np.float32), name="a")
    packed = ir.tensor(np.zeros(5, np.uint8), dtype=ir.DataType.UINT8, name="c")
    values = [ir.Value(name=name, const_value=tensor) for name, tensor in (("a", shared), ("b", shared), ("c", packed))]
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 21}, name="g")
    assert Model(ir.Model(graph, ir_version=10), "m").weight_bytes() == 24 + 24 + 5
