import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
import tvm
from tvm import relax, te

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import compile_module
from lwc.backends.tvm.schedules import scheduled
from lwc.backends.tvm.testing import NARROW, computed, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
MACHINES = st.sampled_from([WIDE, NARROW])
RUNS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES = st.lists(st.sampled_from([1, 2, 3, 7, 16, 19, 65]), min_size=1, max_size=4)


def one(op: str, shape: list[int], inputs: dict[str, np.ndarray] | None = None, **options: object) -> onnx.ModelProto:
    weights = inputs or {}
    return graph([helper.make_node(op, ["x", *weights], ["y"], **options)], shape, weights)


@RUNS
@given(SHAPES, MACHINES, st.data())
def test_elementwise_chains_of_broadcast_operands(shape, machine, data) -> None:
    other = [data.draw(st.sampled_from([1, extent])) for extent in shape]
    weights = {"w": np.random.default_rng(1).normal(size=other).astype("float32")}
    steps = [("Mul", "x w", "a"), ("Tanh", "a", "t"), ("Mul", "t a", "b"), ("Sub", "b x", "c"), ("Sigmoid", "c", "y")]
    nodes = [helper.make_node(op, inputs.split(), [result]) for op, inputs, result in steps]
    assert difference(graph(nodes, shape, weights), machine) < 1e-5


@RUNS
@given(SHAPES, MACHINES, st.data())
def test_transposes_move_every_element(shape, machine, data) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    assert difference(one("Transpose", shape, perm=order), machine) == 0


@RUNS
@given(SHAPES, MACHINES, st.data())
def test_running_sums_keep_their_order(shape, machine, data) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    assert difference(one("CumSum", shape, {"axis": np.array(axis)}), machine) < 1e-5


def test_scattered_rows_that_meet_are_written_in_order() -> None:
    places = np.array([[3, 3, 3, 1], [0, 2, 2, 2]])
    values = np.arange(8, dtype="float32").reshape(2, 4)
    proto = one("ScatterElements", [2, 5], {"i": places, "u": values}, axis=1)
    assert difference(proto, WIDE) == 0


@pytest.mark.parametrize("op", ["TopK", "GatherElements", "Concat"])
def test_what_is_neither_elementwise_nor_a_reduction(op: str) -> None:
    if op == "TopK":
        nodes = [helper.make_node("TopK", ["x", "k"], ["y", "places"])]
        proto = graph(nodes, (3, 50), {"k": np.array([7])})
    elif op == "Concat":
        proto = one("Concat", [3, 50], {"w": np.ones((2, 50), "float32")}, axis=0)
    else:
        proto = one("GatherElements", [3, 50], {"i": np.array([[4, 9], [0, 0], [49, 1]])}, axis=1)
    assert difference(proto, WIDE) == 0


@pytest.mark.parametrize(("extent", "spread"), [(64, False), (1 << 16, True)])
def test_only_large_tensors_wake_other_threads(extent: int, spread: bool) -> None:
    [script] = [func.script() for func in functions(one("Abs", [extent]), WIDE).values()]
    assert ("T.parallel(" in script) == spread
    assert "T.vectorized(" in script


def test_extents_known_only_when_running() -> None:
    builder = relax.BlockBuilder()
    rows = tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((rows, 10), "float32"))
    with builder.function("main", [x]):
        y = builder.emit(relax.op.nn.softmax(relax.op.add(x, relax.op.multiply(x, x)), axis=-1))
        builder.emit_func_output(builder.emit(relax.op.matmul(y, relax.const(np.eye(10, 21, dtype="float32")))))
    run = relax.VirtualMachine(compile_module(builder.get(), WIDE), tvm.cpu())["main"]
    for count in (1, 5, 300):
        values = np.random.default_rng(count).normal(size=(count, 10)).astype("float32")
        grown = np.exp(values + values**2)
        want = grown / grown.sum(1, keepdims=True)
        np.testing.assert_allclose(run(tvm.runtime.tensor(values)).numpy()[:, :10], want, atol=1e-6)


def test_a_dear_value_used_often_is_computed_once() -> None:
    x = te.placeholder((33,))
    dear = te.compute((33,), lambda i: te.exp(x[i]))
    used = te.compute((33,), lambda i: dear[i] * dear[32 - i])
    func = scheduled(te.create_prim_func([x, used]).with_attr("global_symbol", "main"), WIDE)
    assert func.script().count("T.reinterpret(") == 2
    values = np.linspace(-2, 2, 33).astype("float32")
    want = np.exp(values) * np.exp(values[::-1])
    np.testing.assert_allclose(computed([x, used], [values], WIDE), want, rtol=1e-6)
