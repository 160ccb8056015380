import numpy as np
import pytest
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.testing import NARROW, difference, graph

BOUNDS = {"low": np.array(-0.4, np.float32), "high": np.array(0.7, np.float32), "nan": np.array(np.nan, np.float32)}


@pytest.mark.parametrize(
    "inputs",
    [["x", "low", "high"], ["x", "low"], ["x", "", "high"], ["x"], ["x", "nan", "high"], ["x", "low", "nan"]],
)
def test_clip_with_any_of_its_bounds(inputs: list[str]) -> None:
    assert difference(graph([helper.make_node("Clip", inputs, ["y"])], (3, 7), BOUNDS), NARROW) == 0


def test_clip_with_a_computed_bound() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "high"], ["m"]),
        helper.make_node("Clip", ["x", "low", "m"], ["y"]),
    ]
    assert difference(graph(nodes, (3, 7), BOUNDS), NARROW) < 1e-6
