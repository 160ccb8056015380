import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from tvm import te, tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, computed, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
MACHINES = st.sampled_from([WIDE, NARROW])
RUNS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES = st.lists(st.sampled_from([1, 2, 3, 7, 16, 19, 64, 130]), min_size=1, max_size=4).filter(
    lambda shape: np.prod(shape) < 100_000
)


@RUNS
@given(SHAPES, st.sampled_from(["Softmax", "LogSoftmax"]), MACHINES, st.data())
def test_softmax_along_any_axis(shape, op, machine, data) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    assert difference(graph([helper.make_node(op, ["x"], ["y"], axis=axis)], shape, {}), machine) < FP32_SUMS


@RUNS
@given(SHAPES, st.sampled_from(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd"]), MACHINES, st.data())
def test_reductions_over_any_axes(shape, op, machine, data) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keep = data.draw(st.booleans())
    node = helper.make_node(op, ["x"], ["y"], axes=sorted(axes), keepdims=int(keep))
    assert difference(graph([node], shape, {}), machine) < FP32_SUMS


@RUNS
@given(SHAPES, MACHINES)
def test_layer_normalization(shape, machine) -> None:
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=shape[-1]).astype("float32") for name in "gb"}
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)
    assert difference(graph([node], shape, weights), machine) < FP32_SUMS


@RUNS
@given(SHAPES, st.sampled_from(["ArgMax", "ArgMin"]), MACHINES, st.data())
def test_the_place_of_an_extreme(shape, op, machine, data) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    nodes = [helper.make_node(op, ["x"], ["i"], axis=axis), helper.make_node("Cast", ["i"], ["y"], to=1)]
    assert difference(graph(nodes, shape, {}), machine) == 0


def test_nothing_is_less_than_a_row_of_negative_numbers() -> None:
    x = te.placeholder((3, 21))
    k = te.reduce_axis((0, 21))
    greatest = te.compute((3,), lambda i: te.max(x[i, k], axis=k))
    values = -1 - np.arange(63, dtype="float32").reshape(3, 21)
    np.testing.assert_array_equal(computed([x, greatest], [values], WIDE), values.max(1))


def test_a_row_that_reads_another_row_is_left_to_other_rules() -> None:
    x = te.placeholder((8, 40))
    k = te.reduce_axis((0, 40))
    total = te.compute((8,), lambda i: te.sum(x[i, k], axis=k))
    shifted = te.compute((8, 40), lambda i, j: x[i, j] - total[tirx.indexmod(i + 1, 8)])
    values = np.random.default_rng(2).normal(size=(8, 40)).astype("float32")
    want = values - np.roll(values.sum(1), -1)[:, None]
    np.testing.assert_allclose(computed([x, shifted], [values], WIDE), want, atol=FP32_SUMS)


@pytest.mark.parametrize("op", ["Softmax", "ReduceMean"])
def test_rows_are_one_nest(op: str) -> None:
    attributes = {"axis": -1} if op == "Softmax" else {"axes": [-1]}
    [script] = [
        func.script()
        for func in functions(graph([helper.make_node(op, ["x"], ["y"], **attributes)], (64, 300), {}), WIDE).values()
    ]
    assert "T.sblock(" not in script.replace('T.sblock("root")', "")
    assert "T.parallel(" in script
