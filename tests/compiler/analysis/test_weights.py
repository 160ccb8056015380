"""Which constants are matrices of weights, and that each row holds what one output multiplies."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from lwc.compiler.analysis.rows import rows_of
from lwc.compiler.analysis.weights import WeightView, weight_views

RNG = np.random.default_rng(0)


def proto(text: str, **weights: Any) -> onnx.ModelProto:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n agraph ' + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def views(text: str, **shapes: tuple[int, ...]) -> tuple[WeightView, ...]:
    model = ir.from_proto(proto(text, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()}))
    return weight_views(model.graph[-1])


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        ("(float[2,6] x) => (float[2,5] y) { y = MatMul (x, w) }", {"w": (6, 5)}, [WeightView(1, (6, 5), 0, True)]),
        ("(float[5,2] x) => (float[6,2] y) { y = MatMul (w, x) }", {"w": (6, 5)}, [WeightView(0, (6, 5), 1, True)]),
        ("(float[3,2,6] x) => (float[3,2,5] y) { y = MatMul (x, w) }", {"w": (3, 6, 5)}, [WeightView(1, (3, 6, 5), 1)]),
        ("(float[2,6] x) => (float[2] y) { y = MatMul (x, w) }", {"w": (6,)}, []),
        ("(float[2,6] x) => (float[2,5] y) { y = Gemm (x, w) }", {"w": (6, 5)}, [WeightView(1, (6, 5), 0, True)]),
        (
            "(float[2,6] x) => (float[2,5] y) { y = Gemm <transB = 1> (x, w, b) }",
            {"w": (5, 6), "b": (5,)},
            [WeightView(1, (5, 6), 1, True)],
        ),
        (
            "(float[1,6,9] x) => (float[1,5,7] y) { y = Conv (x, w) }",
            {"w": (5, 6, 3)},
            [WeightView(1, (5, 18), 1, True)],
        ),
        (
            "(float[1,6,9] x) => (float[1,8,11] y) { y = ConvTranspose <group = 2> (x, w) }",
            {"w": (6, 4, 3)},
            [WeightView(1, (2, 3, 12), 1, True)],
        ),
        (
            "(float[5,2,6] x) => (float[5,1,2,4] y) { y = GRU <hidden_size = 4> (x, w, r) }",
            {"w": (1, 12, 6), "r": (1, 12, 4)},
            [WeightView(1, (12, 6), 1, True), WeightView(2, (12, 4), 1)],
        ),
        ("(int64[5] x) => (float[5,6] y) { y = Gather (w, x) }", {"w": (9, 6)}, [WeightView(0, (9, 6), 1)]),
        ("(int64[5] x) => (float[9,5] y) { y = Gather <axis = 1> (w, x) }", {"w": (9, 6)}, []),
        ("(float[2,6] x) => (float[2,6] y) { y = Add (x, w) }", {"w": (2, 6)}, []),
        ("(float[64,80] x) => (float[64,80] y) { y = Add (x, w) }", {"w": (64, 80)}, [WeightView(1, (64, 80), 1)]),
        ("(float[1] x) => (float[9,64,8,1] y) { y = Add (x, w) }", {"w": (9, 64, 8, 1)}, [WeightView(1, (9, 512), 1)]),
        ("(float[1,8192] x) => (float[1,8192] y) { y = Add (x, w) }", {"w": (8192,)}, []),
        ("(float[2,6] x) => (float[2,5] y) { y = MatMul (w, v) }", {"w": (2, 6), "v": (6, 5)}, []),
        ("(float[2,6] x, float[6,5] w) => (float[2,5] y) { y = MatMul (x, w) }", {"w": (6, 5)}, []),
    ],
)  # fmt: skip
def test_finds_the_matrices_of_weights(
    text: str, shapes: dict[str, tuple[int, ...]], expected: list[WeightView]
) -> None:
    assert list(views(text, **shapes)) == expected


def test_float64_weights_are_left_alone() -> None:
    model = proto("(double[2,6] x) => (double[2,5] y) { y = MatMul (x, w) }", w=np.zeros((6, 5)))
    assert weight_views(ir.from_proto(model).graph[0]) == ()


@pytest.mark.parametrize(
    ("text", "shape", "inputs"),
    [
        ("(float[2,6] x) => (float[2,5] y) { y = MatMul (x, w) }", (6, 5), (2, 6)),
        ("(float[6,2] x) => (float[5,2] y) { y = MatMul (w, x) }", (5, 6), (6, 2)),
        ("(float[6,2] x) => (float[2,5] y) { y = Gemm <transA = 1, transB = 1> (x, w) }", (5, 6), (6, 2)),
        ("(float[1,6,9] x) => (float[1,8,7] y) { y = Conv <group = 2> (x, w) }", (8, 3, 3), (1, 6, 9)),
    ],
)
def test_rows_times_what_they_see_are_the_outputs(text: str, shape: tuple[int, ...], inputs: tuple[int, ...]) -> None:
    weight, x = RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(inputs).astype(np.float32)
    model = proto(text, w=weight)
    node = ir.from_proto(model).graph[0]
    (view,), seen = weight_views(node), rows_of(node)
    assert seen is not None
    rows = seen[1].of(x, 10_000, RNG)
    rows = rows if rows.ndim == 3 else rows[None]
    matrix = view.matrix(weight).reshape(len(rows), -1, view.columns)
    found = np.sort(np.einsum("gnc,goc->gon", rows, matrix).reshape(-1))
    wanted = np.sort(ReferenceEvaluator(model).run(None, {"x": x})[0].reshape(-1))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("view", [WeightView(1, (6, 5), 0), WeightView(1, (5, 6), 1), WeightView(1, (2, 6, 5), 1)])
def test_back_undoes_matrix(view: WeightView) -> None:
    array = RNG.standard_normal(view.shape).astype(np.float32)
    assert view.matrix(array).shape == (view.rows, view.columns)
    np.testing.assert_array_equal(view.back(view.matrix(array)), array)
