import onnx

from lwc.backends.signature import Signature
from lwc.compiler.core.model import Model

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[n,3] x, int64[] k, string[2] s, bfloat16[?] b, float[2] w) => (bool[n] y) <float[2] w = {1, 2}> {
    y = Identity (x)
}"""


def test_signature_survives_json() -> None:
    found = Signature.of(Model.from_proto(onnx.parser.parse_model(TEXT)))
    assert Signature.from_json(found.to_json()) == found


def test_inputs_with_defaults_are_frozen() -> None:
    found = Signature.of(Model.from_proto(onnx.parser.parse_model(TEXT)))
    assert [port.name for port in found.inputs] == ["x", "k", "s", "b"]
    assert [port.shape for port in found.inputs] == [("n", 3), (), (2,), ("?",)]
    assert found.frozen == {"w"}


def test_dimension_of_minus_one_is_dynamic() -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert Signature.of(Model.from_proto(proto)).inputs[0].shape == ("?", 3)
