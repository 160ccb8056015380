"""Architectures with constant weights get random ones of the right scale."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lwc.models.random_weights import build, draw_parameter


def architecture(folder: Path) -> Path:
    """x -> Conv -> BatchNormalization -> Sum with x, weights by ConstantOfShape or as constants."""
    fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.02])
    shape = numpy_helper.from_array(np.array([8, 8, 3, 3], dtype=np.int64), "w_shape")
    constants = [numpy_helper.from_array(np.full(8, 0.02, np.float32), f"bn_{i}") for i in range(4)]
    nodes = [
        helper.make_node("ConstantOfShape", ["w_shape"], ["w"], value=fill),
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "bn_0", "bn_1", "bn_2", "bn_3"], ["b"]),
        helper.make_node("Sum", ["b", "x"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])
    w_input = helper.make_tensor_value_info("w_shape", TensorProto.INT64, [4])
    graph = helper.make_graph(nodes, "g", [x, w_input], [y], [shape, *constants])
    path = folder / "light.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3), path)
    return path


def test_parameters_become_initializers_drawn_by_their_use(tmp_path: Path) -> None:
    model = build(architecture(tmp_path))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert [node.op_type for node in model.graph.node] == ["Conv", "BatchNormalization", "Sum"]
    assert set(arrays) == {"w", "bn_0", "bn_1", "bn_2", "bn_3"}
    assert arrays["w"].shape == (8, 8, 3, 3)
    assert abs(arrays["w"].std() - (2 / 72) ** 0.5) < 0.02
    assert (arrays["bn_0"] >= 0.1).all()
    assert (arrays["bn_0"] <= 0.3).all()
    assert abs(arrays["bn_1"].mean()) < 0.1
    assert (arrays["bn_3"] >= 0.8).all()


def test_the_model_is_valid_and_the_same_every_time(tmp_path: Path) -> None:
    path = architecture(tmp_path)
    first, second = build(path), build(path)
    onnx.checker.check_model(first, full_check=True)
    assert first == second
    assert [value.name for value in first.graph.input] == ["x"]


def test_a_parameter_depends_on_its_name() -> None:
    use = ("Conv", 1)
    same = draw_parameter("a", (4, 4, 3, 3), use)
    np.testing.assert_array_equal(draw_parameter("a", (4, 4, 3, 3), use), same)
    assert not np.array_equal(draw_parameter("b", (4, 4, 3, 3), use), same)
