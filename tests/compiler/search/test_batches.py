from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.parser
import pytest

from lwc import backends
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.search.batches import Run, find_runs, loosened, shares

BACKEND = backends.get("onnxruntime")


def opened(model: Model) -> Session:
    return BACKEND.session(model, host().with_threads(1))


def runs_of(text: str, shapes: Sequence[tuple[int, ...]], most_bytes: int = 10**6) -> list[tuple[int, ...]]:
    model = Model.from_proto(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>' + text))
    rng = np.random.default_rng(0)
    samples = [{"x": rng.standard_normal(shape).astype(np.float32)} for shape in shapes]
    outputs = [opened(model).run(sample) for sample in samples]
    return [run.samples for run in find_runs(model, samples, outputs.__getitem__, opened, most_bytes)[1]]


def test_samples_of_one_shape_run_together() -> None:
    text = "g (float[N, C] x) => (float[N, C] y) { y = Relu(x) }"
    assert runs_of(text, [(1, 3)] * 3) == [(0, 1, 2)]
    assert runs_of(text, [(1, 3), (1, 4), (1, 3)]) == [(0, 2), (1,)]
    assert runs_of(text, [(1, 3)] * 10) == [tuple(range(8)), (8, 9)]


def test_as_many_run_together_as_their_values_fit() -> None:
    text = "g (float[N, C] x) => (float[N, C] y) { h = Relu(x) y = Abs(h) }"  # two values of 40 bytes a sample
    assert runs_of(text, [(1, 10)] * 4, most_bytes=250) == [(0, 1, 2), (3,)]
    assert runs_of(text, [(1, 10)] * 2, most_bytes=1) == [(0,), (1,)]


def test_a_fixed_batch_is_loosened() -> None:
    text = """g (float[1, 2, 4] x) => (float[1, 8] y)
    <int64[2] shape = {1, 8}> { h = Relu(x) y = Reshape(h, shape) }"""
    assert runs_of(text, [(1, 2, 4)] * 3) == [(0, 1, 2)]


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMax<keepdims = 0>(x) y = Div(x, m)",  # over all samples
        "y = Softmax<axis = 0>(x)",
        "s = Shape(x) f = Cast<to = 1>(s) m = ReduceMax<keepdims = 0>(f) y = Mul(x, m)",
    ],
)
def test_samples_run_alone_where_a_batch_gives_something_else(body: str) -> None:
    assert runs_of(f"g (float[N, 3] x) => (float[N, 3] y) {{ {body} }}", [(2, 3)] * 3) == [(0,), (1,), (2,)]


def test_samples_on_another_axis_of_the_output_are_told_apart() -> None:
    assert runs_of("g (float[N, 3] x) => (float[3, N] y) { y = Transpose(x) }", [(1, 3)] * 3) == [(0, 1, 2)]


def test_shares_follow_the_shape_of_one_sample() -> None:
    together = {"y": np.arange(12).reshape(2, 6), "n": np.zeros(3)}
    found = shares(together, {"y": np.zeros((2, 3)), "n": np.zeros(3)}, 1, 2)
    assert set(found) == {"y"}
    assert found["y"].tolist() == [[3, 4, 5], [9, 10, 11]]


def test_a_run_stacks_its_samples() -> None:
    samples: list[dict[str, Any]] = [{"x": np.full((1, 2), k)} for k in range(3)]
    assert Run((0, 2)).feeds(samples, ["x"])["x"].tolist() == [[0, 0], [2, 2]]


def test_loosening_leaves_other_reshapes_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[8] y)
    <int64[1] shape = {8}> { y = Reshape(x, shape) }"""
    model = Model.from_proto(onnx.parser.parse_model(text))
    assert loosened(model).digest() == model.digest()
