import numpy as np
import onnx
import pytest

pytest.importorskip("openvino")

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.openvino.build import OpenVino
from lwc.backends.openvino.workarounds import made_readable
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import NAMED

TARGET = NAMED["cpu:x86-64-v4"].with_threads(1)


def grouped(channels: int, kernel: int = 1) -> Model:
    """Two groups of so many channels, int8."""
    rng = np.random.default_rng(0)
    outputs = 16
    weights = {
        "w": rng.integers(-127, 128, (outputs, channels, kernel, kernel)).astype(np.int8),
        "ws": (0.005 + 0.02 * rng.random(outputs)).astype(np.float32),
        "wz": np.zeros(outputs, np.int8),
        "s": np.float32(0.02),
        "z": np.uint8(128),
    }
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1,{2 * channels},4,4] x) => (float[1,{outputs},a,b] y) {{
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear <axis = 0> (w, ws, wz)
        [conv] y = Conv <group = 2> (d, k)
    }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    return Model.from_proto(proto)


@pytest.mark.parametrize("channels", [64, 72, 80, 128])
def test_grouped_integer_convolution_is_right(channels: int) -> None:
    model = grouped(channels)
    x = np.random.default_rng(1).standard_normal((1, 2 * channels, 4, 4)).astype(np.float32)
    expected = OnnxRuntime().session(model, TARGET).run({"x": x})["y"]
    found = OpenVino().session(model, TARGET).run({"x": x})["y"]
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


@pytest.mark.parametrize(("channels", "kernel"), [(64, 1), (128, 1), (40, 1), (80, 3)])
def test_convolutions_that_are_right_stay_integer(channels: int, kernel: int) -> None:
    model = grouped(channels, kernel)
    assert made_readable(model) is model


def test_float_weights_are_given_on_a_fork() -> None:
    model = grouped(80)
    before = model.digest()
    assert made_readable(model).digest() != before
    assert model.digest() == before


def test_a_square_weight_that_is_read_both_ways_is_right_once_compiled_for_fixed_shapes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N,4] x) => (float[N,4] y) {
        a = Gemm (x, w)
        y = Gemm <transB = 1> (a, w)
    }"""
    proto = onnx.parser.parse_model(text)
    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model = Model.from_proto(proto)
    session = OpenVino().session(model, TARGET)
    x = np.eye(4, dtype=np.float32)
    for _ in range(4):
        np.testing.assert_allclose(session.run({"x": x})["y"], weight @ weight.T)


@pytest.mark.parametrize(("alpha", "clipped"), [(1 / 6, True), (0.2, False)])
def test_a_hard_swish_becomes_what_openvino_fuses(alpha: float, clipped: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2,9] x) => (float[2,9] y) {{
        [gate] h = HardSigmoid <alpha = {alpha}, beta = 0.5> (x)
        y = Mul (x, h)
    }}"""
    model = Model.from_proto(onnx.parser.parse_model(text))
    assert any(node.op_type == "Clip" for node in made_readable(model).nodes()) is clipped
    x = np.linspace(-5, 5, 18, dtype=np.float32).reshape(2, 9)
    expected = OnnxRuntime().session(model, TARGET).run({"x": x})["y"]
    np.testing.assert_allclose(OpenVino().session(model, TARGET).run({"x": x})["y"], expected, atol=1e-6)
