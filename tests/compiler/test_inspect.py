import numpy as np
import onnx
import pytest

from lwc.compiler.inspect import INSERTED, Layer, inspect

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)
<float[4, 3, 3, 3] w, float[4] b, int8[4] w8, float scale>
{
    [conv] c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    [shape] s = Constant<value_ints = [1, 4, 1, 1]>()
    [dequantize] d = DequantizeLinear(w8, scale)
    [reshape] k = Reshape(d, s)
    [mul] y = Mul(c, k)
}
"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(4, np.float32),
        "w8": np.ones(4, np.int8),
        "scale": np.float32(0.5),
    }
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()
    )
    return proto


def by_name(layers: list[Layer]) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers}


def test_a_layer_shows_what_it_is_and_what_it_weighs(model: onnx.ModelProto) -> None:
    conv = by_name(inspect(model, profile=False))["conv"]
    assert (conv.op, conv.shape) == ("Conv", (1, 4, 8, 8))
    assert conv.parameters == 4 * 3 * 3 * 3 + 4
    assert conv.bytes == 4 * conv.parameters
    assert conv.macs == 8 * 8 * 4 * 3 * 3 * 3
    assert conv.share is None


def test_a_stored_integer_weight_is_counted_where_it_is_read(model: onnx.ModelProto) -> None:
    layers = by_name(inspect(model, profile=False))
    assert "dequantize" not in layers
    assert (layers["reshape"].parameters, layers["reshape"].bytes) == (4, 4)


def test_a_given_shape_and_weights_that_are_constants_count() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[N, 2] x) => (float[N, 3] y)
    {
        w = Constant<value = float[2, 3] {1, 2, 3, 4, 5, 6}>()
        [product] y = MatMul(x, w)
    }
    """
    layers = by_name(inspect(onnx.parser.parse_model(text), shape={"x": (5, 2)}, profile=False))
    assert (layers["product"].shape, layers["product"].parameters, layers["product"].macs) == ((5, 3), 6, 5 * 2 * 3)


def test_conversions_that_take_no_time_of_their_own_are_no_layers() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[1, 8] x) => (float[1, 8] y)
    <float scale = {0.02}, uint8 zero = {0}>
    {
        [quantize] i = QuantizeLinear(x, scale, zero)
        [dequantize] f = DequantizeLinear(i, scale, zero)
        [abs] y = Abs(f)
    }
    """
    layers = inspect(onnx.parser.parse_model(text), profile=False)
    assert [(layer.name, layer.parameters) for layer in layers] == [("abs", 0)]


def test_constants_are_no_layers(model: onnx.ModelProto) -> None:
    assert list(by_name(inspect(model, profile=False))) == ["conv", "reshape", "mul"]


def test_shares_of_time_add_up_to_one(model: onnx.ModelProto) -> None:
    layers = inspect(model)
    assert sum(layer.share or 0.0 for layer in layers) == pytest.approx(1.0)
    assert by_name(layers)["conv"].share
    assert all(layer.op == INSERTED for layer in layers[3:])
