"""Weights whose data do not fit their type and shape are refused, wherever they are."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from lwc.compiler.core.errors import InvalidGraph
from lwc.compiler.core.model import Model
from lwc.compiler.core.storage import MAPPED_BYTES

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[3] x) => (float[3] y) { y = Identity(x) }"""


def with_weight(tensor: onnx.TensorProto, folder: Path) -> Path:
    model = parser.parse_model(MODEL)
    tensor.name = "w"
    model.graph.initializer.append(tensor)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refusal(tensor: onnx.TensorProto, folder: Path) -> str:
    with pytest.raises(InvalidGraph) as caught:
        Model.open(with_weight(tensor, folder))
    return caught.value.message


def raw(dtype: int, dims: list[int], count: int) -> onnx.TensorProto:
    return onnx.TensorProto(data_type=dtype, dims=dims, raw_data=bytes(count))


@pytest.mark.parametrize(
    ("tensor", "needs", "has"),
    [
        (raw(TensorProto.FLOAT, [2, 3], 20), "24 bytes", 20),
        (raw(TensorProto.FLOAT, [2, 3], 28), "24 bytes", 28),
        (raw(TensorProto.BFLOAT16, [3], 4), "6 bytes", 4),
        (raw(TensorProto.INT4, [5], 2), "3 bytes", 2),
        (raw(TensorProto.INT2, [5], 1), "2 bytes", 1),
        (raw(TensorProto.FLOAT8E4M3FN, [4], 5), "4 bytes", 5),
        (raw(TensorProto.FLOAT, [1 << 40, 1 << 20], 8), f"{1 << 62} bytes", 8),
        (raw(TensorProto.FLOAT, [MAPPED_BYTES], MAPPED_BYTES), f"{4 * MAPPED_BYTES} bytes", MAPPED_BYTES),
        (raw(TensorProto.FLOAT, [0], 4), "0 bytes", 4),
        (onnx.TensorProto(data_type=TensorProto.FLOAT, dims=[3], float_data=[1, 2]), "3 values", 2),
        (onnx.TensorProto(data_type=TensorProto.FLOAT, dims=[2], int32_data=[1, 2]), "2 values", 0),
        (onnx.TensorProto(data_type=TensorProto.FLOAT, dims=[2]), "2 values", 0),
        (onnx.TensorProto(data_type=TensorProto.INT64, dims=[], int64_data=[1, 2]), "1 values", 2),
        (onnx.TensorProto(data_type=TensorProto.STRING, dims=[2], string_data=[b"a"]), "2 values", 1),
        (onnx.TensorProto(data_type=TensorProto.UINT4, dims=[3], int32_data=[1]), "2 values", 1),
        (onnx.TensorProto(data_type=TensorProto.COMPLEX64, dims=[1], float_data=[1]), "2 values", 1),
    ],
)
def test_refuses_data_that_do_not_fit(tensor: onnx.TensorProto, needs: str, has: int, tmp_path: Path) -> None:
    text = refusal(tensor, tmp_path)
    assert text.startswith("model.onnx: tensor 'w' of type ")
    assert text.endswith(f"needs {needs} and has {has}.")


def test_refuses_raw_strings(tmp_path: Path) -> None:
    assert "takes no raw data and has 2." in refusal(raw(TensorProto.STRING, [1], 2), tmp_path)


def test_refuses_a_negative_dimension(tmp_path: Path) -> None:
    assert "has the shape [-1, 2]." in refusal(raw(TensorProto.FLOAT, [-1, 2], 8), tmp_path)


def test_refuses_a_weight_without_a_type(tmp_path: Path) -> None:
    assert "has no type." in refusal(raw(TensorProto.UNDEFINED, [1], 4), tmp_path)


def test_refuses_a_weight_of_an_unknown_type(tmp_path: Path) -> None:
    assert "has the unknown type 999." in refusal(raw(999, [1], 4), tmp_path)


def test_refuses_a_weight_without_a_name(tmp_path: Path) -> None:
    model = parser.parse_model(MODEL)
    model.graph.initializer.append(raw(TensorProto.FLOAT, [1], 4))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidGraph, match="a value without a name"):
        Model.open(path)


def test_refuses_a_constant_whose_data_do_not_fit(tmp_path: Path) -> None:
    model = parser.parse_model(MODEL)
    node = helper.make_node("Constant", [], ["c"], name="c", value=raw(TensorProto.FLOAT, [2], 4))
    model.graph.node.append(node)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidGraph, match=r"node 'c' \(Constant\): tensor '' .* needs 8 bytes and has 4"):
        Model.open(path)


def test_refuses_a_weight_in_a_subgraph_whose_data_do_not_fit(tmp_path: Path) -> None:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, bool c) => (float[3] y) {
            y = If (c) <
                then_branch = t () => (float[3] p) { p = Neg(x) }, else_branch = e () => (float[3] q) { q = Abs(x) }
            >
        }"""
    )
    tensor = raw(TensorProto.FLOAT, [2], 4)
    tensor.name = "w"
    model.graph.node[0].attribute[0].g.initializer.append(tensor)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidGraph, match=r"tensor 'w' .* needs 8 bytes and has 4"):
        Model.open(path)


@pytest.mark.parametrize("shape", [[4], [3, 1]])
def test_refuses_an_initializer_that_differs_from_the_input_it_sets(shape: list[int], tmp_path: Path) -> None:
    model = parser.parse_model(MODEL)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "w"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidGraph, match="'w' has another type or shape than the input it sets"):
        Model.open(path)


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
        *(
            ml_dtypes.int4,
            ml_dtypes.uint4,
            ml_dtypes.float4_e2m1fn,
            np.int8,
            np.uint8,
            np.int64,
            np.bool_,
            np.complex64,
        ),
    ],
)
@pytest.mark.parametrize("count", [0, 5, 3 * MAPPED_BYTES + 1])
def test_opens_weights_of_every_type_with_their_values(dtype: type[np.generic], count: int, tmp_path: Path) -> None:
    array = (np.arange(count) % 7).astype(dtype)
    tensor = numpy_helper.from_array(array)
    opened = Model.open(with_weight(tensor, tmp_path)).graph.initializers["w"].const_value
    assert opened is not None
    np.testing.assert_array_equal(opened.numpy().view(np.uint8), array.view(np.uint8))
