from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import lwc
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_keeps_promises
from lwc.passes.merge.share_tensors import ShareTensors

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])
RNG = np.random.default_rng(0)


def chain(*weights: np.ndarray) -> onnx.ModelProto:
    """x [2, 8] through a product by each weight."""
    names = ["x", *(f"h{k}" for k in range(1, len(weights))), "y"]
    nodes = [helper.make_node("MatMul", [names[k], f"w{k}"], [names[k + 1]]) for k in range(len(weights))]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (2, 8)) for name in ("x", "y")]
    arrays = [numpy_helper.from_array(array, f"w{k}") for k, array in enumerate(weights)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stored(bound: float, *weights: np.ndarray) -> int:
    model = ir.from_proto(chain(*weights))
    assert_keeps_promises(model, ShareTensors(bound), CONTEXT)
    return len(model.graph.initializers)


@settings(deadline=None)
@given(error=st.floats(0, 0.1), bound=st.floats(1e-6, 0.1))
def test_the_bound_is_of_the_greatest_value_of_the_one_that_stays(error: float, bound: float) -> None:
    weight = RNG.uniform(-1, 1, (8, 8)).astype(np.float64)
    weight[3, 4] = -2.0
    other = weight.copy()
    other[5, 1] += 2.0 * error
    far = abs(other[5, 1] - weight[5, 1]) > bound * 2.0
    assert stored(bound, weight.astype(np.float64), other) == (2 if far else 1)


def test_errors_do_not_add_up_along_a_chain() -> None:
    weight = np.ones((8, 8), np.float32)
    assert stored(0.1, weight, weight * 1.08, weight * 1.16) == 2


@pytest.mark.parametrize(
    "other",
    [np.full((8, 8), np.nan, np.float32), np.ones((8, 8), np.float16), -np.ones((8, 8), np.float32)],
    ids=["nan", "type", "sign"],
)
def test_what_is_far_or_of_another_kind_stays(other: np.ndarray) -> None:
    model = ir.from_proto(chain(np.ones((8, 8), np.float32), other))
    ShareTensors(0.1).run(model, CONTEXT)
    assert len(model.graph.initializers) == 2


def test_a_compile_shares_on_request_and_says_what_it_lost(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    weight = RNG.normal(size=(8, 8)).astype(np.float32) / 3
    proto = chain(weight, weight + 1e-4)
    samples = [{"x": RNG.normal(size=(2, 8)).astype(np.float32)} for _ in range(8)]

    def weights(**options: object) -> int:
        asked = {"precision": "fp32", "backend": "ort", "objective": "size", "metric": "cosine", "no_cache": True}
        artifact = lwc.compile(proto, tmp_path / str(len(options)), calib=samples, **asked, **options)
        model = onnx.load(artifact.folder / "model.onnx")
        return sum(len(one.dims) == 2 for one in model.graph.initializer)

    assert weights() == 2
    assert weights(share=1e-2) == 1


@pytest.mark.parametrize("share", [-1.0, float("nan")])
def test_a_bound_is_a_number_not_below_zero(share: float, tmp_path: Path) -> None:
    with pytest.raises(lwc.LwcError, match="'share' must be"):
        lwc.compile(chain(np.ones((8, 8), np.float32)), tmp_path / "out", share=share)
