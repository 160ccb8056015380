"""Rows that a layer's weight multiplies: their products with the weight are the layer's output."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from lwc.compiler.analysis.rows import rows_of

RNG = np.random.default_rng(0)


def layer(op, x_shape, weight_shape, flip=False, **attributes):
    """(node, x, weight, output) of one layer; flip: the weight is the first input."""
    weight = RNG.standard_normal(weight_shape).astype(np.float32)
    names = ["w", "x"] if flip else ["x", "w"]
    node = helper.make_node(op, names, ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    x = RNG.standard_normal(x_shape).astype(np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    return next(iter(ir.from_proto(model).graph)), x, weight, y


def rows(node, x, limit=10**6):
    index, found = rows_of(node)
    return index, found, found.of(x, limit, np.random.default_rng(0))


def test_matmul_rows_are_the_last_axis():
    node, x, weight, y = layer("MatMul", (2, 5, 4), (4, 3))
    index, found, matrix = rows(node, x)
    assert (index, found.features, matrix.shape) == (0, 4, (10, 4))
    np.testing.assert_allclose(matrix @ weight, y.reshape(10, 3), rtol=1e-5)


def test_matmul_with_the_weight_first_takes_columns():
    node, x, weight, y = layer("MatMul", (2, 4, 5), (3, 4), flip=True)
    index, found, matrix = rows(node, x)
    assert (index, found.features, matrix.shape) == (1, 4, (10, 4))
    np.testing.assert_allclose(matrix @ weight.T, np.swapaxes(y, 1, 2).reshape(10, 3), rtol=1e-5)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_rows_follow_trans_a(trans_a, trans_b):
    shape = (4, 6) if trans_a else (6, 4)
    node, x, weight, y = layer("Gemm", shape, (3, 4) if trans_b else (4, 3), transA=trans_a, transB=trans_b)
    _, found, matrix = rows(node, x)
    assert found.features == 4
    np.testing.assert_allclose(matrix @ (weight.T if trans_b else weight), y, rtol=1e-5)


CONVOLUTIONS = {
    "plain": ((2, 3, 8, 9), (4, 3, 3, 3), {}),
    "padded and strided": ((1, 3, 8, 9), (4, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
    "dilated": ((1, 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3]}),
    "of groups": ((1, 6, 5, 5), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((2, 6, 5, 5), (6, 1, 3, 3), {"group": 6}),
    "one-dimensional": ((2, 3, 20), (4, 3, 5), {"strides": [2]}),
    "three-dimensional": ((1, 2, 4, 5, 6), (3, 2, 2, 2, 2), {}),
    "same upper": ((1, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "valid": ((1, 3, 8, 7), (4, 3, 3, 4), {"auto_pad": "VALID"}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_patches_times_kernels_are_the_convolution(case):
    x_shape, weight_shape, attributes = CONVOLUTIONS[case]
    node, x, weight, y = layer("Conv", x_shape, weight_shape, **attributes)
    _, found, matrix = rows(node, x)
    groups = attributes.get("group", 1)
    assert (found.features, found.groups) == (math.prod(weight_shape[1:]), groups)
    stacked = matrix if groups > 1 else matrix[None]
    kernels = weight.reshape(groups, weight_shape[0] // groups, -1)
    want = np.moveaxis(y, 1, -1).reshape(-1, weight_shape[0])
    got = np.concatenate([stacked[g] @ kernels[g].T for g in range(groups)], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_an_image_smaller_than_the_kernel_gives_no_rows():
    _, found = rows_of(layer("Conv", (1, 3, 8, 8), (4, 3, 5, 5))[0])
    assert found.of(np.zeros((1, 3, 4, 4), np.float32), 100, np.random.default_rng(0)).shape[-2] == 0


def test_transposed_convolution_rows_are_pixels():
    node, x, weight, y = layer("ConvTranspose", (2, 4, 3, 3), (4, 5, 1, 1))
    _, found, matrix = rows(node, x)
    assert (found.features, matrix.shape) == (4, (18, 4))
    np.testing.assert_allclose(matrix @ weight[:, :, 0, 0], np.moveaxis(y, 1, -1).reshape(-1, 5), rtol=1e-4, atol=1e-5)


def test_beyond_the_limit_rows_are_drawn_by_the_generator():
    _, found = rows_of(layer("Conv", (2, 3, 16, 16), (4, 3, 3, 3))[0])
    x = RNG.standard_normal((2, 3, 16, 16)).astype(np.float32)
    every = found.of(x, 10**6, np.random.default_rng(0))
    some = [found.of(x, 50, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert some[0].shape == (50, 27)
    np.testing.assert_array_equal(some[0], some[1])
    assert not np.array_equal(some[0], some[2])
    assert {row.tobytes() for row in some[0]} <= {row.tobytes() for row in every}


def test_nodes_without_a_constant_weight_matrix_have_no_rows():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 3))
    weight = onnx.numpy_helper.from_array(np.ones((2, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"]),
        helper.make_node("MatMul", ["x", "w"], ["b"]),
        helper.make_node("Add", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["x"], ["d"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "abcd"]
    graph = helper.make_graph(nodes, "g", [x], outputs, [weight])
    assert [rows_of(node) for node in ir.from_proto(helper.make_model(graph)).graph] == [None] * 4
