"""Every tiny graph is valid, runs, and computes something."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from lwc.models import tiny
from lwc.models.tiny import (
    activations,
    control,
    convolutions,
    formats,
    layout,
    linear,
    recurrent,
    redundant,
    transformers,
)
from lwc.models.tiny.text import graph

MODULES = (activations, control, convolutions, formats, layout, linear, recurrent, redundant, transformers)
GRAPHS = tiny.all_graphs()
EVERY = pytest.mark.parametrize("name", GRAPHS)
# Outputs that cannot depend on the values of the inputs.
INDEPENDENT = {"random_twice", "zero_size"}


def _run(model: ir.Model, feeds: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, feeds)]


def _operators(scope: ir.Graph | ir.Function) -> Iterator[str]:
    yield from (node.op_type for node in scope.all_nodes())


@EVERY
def test_the_checker_passes_it(name: str) -> None:
    onnx.checker.check_model(ir.to_proto(GRAPHS[name]()))


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in tiny.NOT_RUNNABLE])
def test_it_runs_and_gives_the_shapes_it_declares(name: str) -> None:
    model = GRAPHS[name]()
    outputs = _run(model, tiny.feeds(model))
    sizes: dict[str, int] = {}
    for value, output in zip(model.graph.outputs, outputs, strict=True):
        assert value.shape is not None
        assert value.dtype is not None
        assert len(value.shape) == output.ndim
        if output.dtype.kind == "f":
            assert value.dtype.numpy() == output.dtype
            assert np.isfinite(output).all()
        for dim, size in zip(value.shape, output.shape, strict=True):
            assert (dim if isinstance(dim, int) else sizes.setdefault(str(dim), size)) == size or dim is None


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in tiny.NOT_RUNNABLE and name not in INDEPENDENT])
def test_its_outputs_depend_on_its_inputs(name: str) -> None:
    model = GRAPHS[name]()
    first, *others = (_run(model, tiny.feeds(model, seed)) for seed in range(4))
    assert any(
        left.shape != right.shape or not np.array_equal(left, right)
        for other in others
        for left, right in zip(first, other, strict=True)
    )


@pytest.mark.parametrize("name", sorted(set(tiny.NOT_RUNNABLE) - {"newest_opset"}))
def test_the_runtime_refuses_what_is_marked_so(name: str) -> None:
    model = GRAPHS[name]()
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|not a registered"):
        _run(model, tiny.feeds(model))


def test_a_builder_gives_a_fresh_model_with_the_same_weights() -> None:
    for build in GRAPHS.values():
        first, second = build(), build()
        assert first is not second
        assert ir.to_proto(first) == ir.to_proto(second)


def test_no_name_is_used_twice() -> None:
    assert len(GRAPHS) == sum(len(module.GRAPHS) for module in MODULES)


def test_the_families_are_there() -> None:
    found = {op for build in GRAPHS.values() for op in _operators(build().graph)}
    expected = (
        "Conv ConvTranspose BatchNormalization Gemm MatMul Einsum Add Mul Concat Split Reshape Transpose Slice Gather "
        "MaxPool AveragePool GlobalAveragePool Resize Upsample Pad HardSwish HardSigmoid LeakyRelu PRelu Clip Softmax "
        "LayerNormalization InstanceNormalization Gelu Erf Attention LSTM GRU RNN If Loop Scan Identity Dropout Cast "
        "QuantizeLinear DequantizeLinear QLinearConv MatMulInteger DynamicQuantizeLinear FusedMatMul MatMulNBits "
        "Constant ConstantOfShape Shape TopK SequenceConstruct DepthToSpace"
    )
    assert set(expected.split()) <= found


def test_the_opsets_reach_from_7_to_the_newest() -> None:
    opsets = {build().opset_imports[""] for build in GRAPHS.values()}
    assert {7, 9, 11, 13, 17, 21, 23, onnx.defs.onnx_opset_version()} <= opsets


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int4_weight", ir.DataType.INT4),
        ("uint4_weight_in_blocks", ir.DataType.UINT4),
        ("bfloat16_weight", ir.DataType.BFLOAT16),
        ("float8_weight", ir.DataType.FLOAT8E4M3FN),
        ("float8_e5m2_cast", ir.DataType.FLOAT8E5M2),
    ],
)
def test_narrow_weights_keep_their_format(name: str, dtype: ir.DataType) -> None:
    assert GRAPHS[name]().graph.initializers["w"].dtype == dtype


def test_feeds_repeat_by_seed_and_leave_weights_out() -> None:
    model = GRAPHS["opset_7"]()
    assert len(model.graph.inputs) == 8
    feeds = tiny.feeds(model, seed=1)
    assert set(feeds) == {"x"}
    assert feeds["x"].shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(feeds["x"], tiny.feeds(model, seed=1)["x"])
    assert not np.array_equal(feeds["x"], tiny.feeds(model, seed=2)["x"])


def test_feeds_refuse_an_input_of_unknown_shape() -> None:
    model = GRAPHS["relu"]()
    model.graph.inputs[0].shape = None
    with pytest.raises(ValueError, match="'x' has no type or no shape"):
        tiny.feeds(model)


def test_wide_integer_weights_need_values() -> None:
    with pytest.raises(ValueError, match="'w' has type"):
        graph("(int64[2] x) => (int64[2] y) <int64[2] w> { y = Add(x, w) }")()


def test_weights_of_subgraphs_stay_in_their_subgraphs() -> None:
    model = GRAPHS["if_with_own_weights"]()
    assert not model.graph.initializers
    branches = [attribute.as_graph() for attribute in next(iter(model.graph)).attributes.values()]
    weights = [branch.initializers["w"].const_value for branch in branches]
    assert all(weight is not None for weight in weights)
    assert not np.array_equal(*(weight.numpy() for weight in weights if weight is not None))
