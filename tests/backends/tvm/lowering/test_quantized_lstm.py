import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import answers
from lwc.compiler.testing import run_onnxruntime

STEPS, SIZE, HIDDEN = 6, 7, 32  # ONNX Runtime cannot quantize rows of another length than a multiple of its kernels'
# A step of the 255 of a state's range, times weights around one: codes may round to a neighbour.
ONE_CODE = 0.02


@pytest.mark.parametrize("columns", [1, 4 * HIDDEN], ids=["one scale", "a scale for each column"])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_agrees_with_onnxruntime_but_for_rounding_of_codes(columns: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    zero = 128 if kind == "uint8" else 0
    scales, points = np.full((2, columns), 0.004, np.float32), np.full((2, columns), zero, kind)
    if columns == 1:
        scales, points = scales[:, 0], points[:, 0]
    weights = {
        "w": (rng.integers(-127, 127, (2, SIZE, 4 * HIDDEN)) + zero).astype(kind),
        "r": (rng.integers(-127, 127, (2, HIDDEN, 4 * HIDDEN)) + zero).astype(kind),
        "b": rng.standard_normal((2, 8 * HIDDEN)).astype(np.float32) / 4,
        "ws": scales, "wz": points, "rs": scales, "rz": points,
    }  # fmt: skip
    node = helper.make_node(
        "DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"], ["y", "h", "c"],
        domain="com.microsoft", hidden_size=HIDDEN, direction="bidirectional",
    )  # fmt: skip
    float_ = onnx.TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info(name, float_, None) for name in ("y", "h", "c")]
    graph = helper.make_graph(
        [node], "quantized", [helper.make_tensor_value_info("x", float_, [STEPS, 1, SIZE])], outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    feeds = {"x": rng.standard_normal((STEPS, 1, SIZE)).astype(np.float32)}
    for want, got in zip(run_onnxruntime(proto, feeds), answers(proto, feeds), strict=True):
        assert np.abs(want).max() > 0.3
        assert np.abs(want - got).max() < ONE_CODE
