"""What may be written in several ways is brought to one when a file is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from lwc.compiler.analysis.shapes import fix_dimensions
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.storage import read_model


def identity() -> onnx.ModelProto:
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) { y = Identity(x) }"""
    )


def read(content: bytes, folder: Path) -> ir.Model:
    (folder / "model.onnx").write_bytes(content)
    return read_model(folder / "model.onnx")


def test_makes_documentation_in_another_encoding_legible(tmp_path: Path) -> None:
    proto = identity()
    proto.doc_string = "gratings"
    proto.metadata_props.add(key="author", value="grauel")
    model = read(proto.SerializeToString().replace(b"gra", b"gr\xfc"), tmp_path)
    assert model.doc_string == "gr\ufffdtings"
    assert model.metadata_props == {"author": "gr\ufffduel"}


def test_makes_sparse_weights_dense(tmp_path: Path) -> None:
    proto = identity()
    for name, indices in (("flat", [1, 5]), ("pairs", [[0, 1], [1, 2]])):
        proto.graph.sparse_initializer.append(
            helper.make_sparse_tensor(
                helper.make_tensor(name, TensorProto.FLOAT, [2], [7, 8]),
                numpy_helper.from_array(np.array(indices, np.int64)),
                [2, 3],
            )
        )
    weights = read(proto.SerializeToString(), tmp_path).graph.initializers
    assert set(weights) == {"flat", "pairs"}
    for value in weights.values():
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), [[0, 7, 0], [0, 0, 8]])


def test_leaves_dimensions_of_minus_one_open_as_inference_aborts_on_them(tmp_path: Path) -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x, seq(float[N]) z) => (float[N] y) <int64[1] one = {1}> { y = Slice(x, one, one) }"""
    )
    x, z = (value.type for value in proto.graph.input)
    for kind in (x, z.sequence_type.elem_type, proto.graph.output[0].type):
        kind.tensor_type.shape.dim[0].dim_value = -1
    model = read(proto.SerializeToString(), tmp_path)
    assert [value.shape for value in (*model.graph.inputs, *model.graph.outputs)] == [ir.Shape([None])] * 3
    infer_shapes(model)


def test_dimensions_called_by_a_question_mark_are_not_one_and_the_same(tmp_path: Path) -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N, M] x) => (float[N, M] y) { y = Relu(x) }"""
    )
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_param = "?"
    model = read(proto.SerializeToString(), tmp_path)
    fix_dimensions(model, {"x": (2, 3)})
    assert model.graph.inputs[0].shape == ir.Shape([2, 3])


def test_makes_sparse_constants_dense(tmp_path: Path) -> None:
    proto = identity()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("c", TensorProto.FLOAT, [1], [7]), helper.make_tensor("i", TensorProto.INT64, [1], [2]), [3]
    )
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    constant = list(read(proto.SerializeToString(), tmp_path).graph)[-1]
    np.testing.assert_array_equal(constant.attributes["value"].as_tensor().numpy(), [0, 0, 7])


@pytest.mark.parametrize(("indices", "shape"), [([9], [3]), ([1], [-3]), ([0], [1 << 40])])
def test_refuses_sparse_weights_that_do_not_fit(indices: list[int], shape: list[int], tmp_path: Path) -> None:
    proto = identity()
    proto.graph.sparse_initializer.append(
        onnx.SparseTensorProto(
            values=helper.make_tensor("c", TensorProto.FLOAT, [1], [7]),
            indices=helper.make_tensor("i", TensorProto.INT64, [1], indices),
            dims=shape,
        )
    )
    with pytest.raises(BadInput, match="Sparse tensor 'c' has"):
        read(proto.SerializeToString(), tmp_path)
