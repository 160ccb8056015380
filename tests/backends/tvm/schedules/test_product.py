import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from tvm import te

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, computed, difference, functions, graph
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
MACHINES = st.sampled_from([WIDE, NARROW])
RUNS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 48, 65, 100])


def dense(batch: tuple[int, ...], rows: int, depth: int, columns: int) -> onnx.ModelProto:
    """Gelu(x W + b) + r, with a constant W."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(depth, columns)).astype("float32") / np.float32(depth**0.5),
        "b": rng.normal(size=columns).astype("float32"),
        "r": rng.normal(size=(rows, columns)).astype("float32"),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
    }
    steps = [
        ("MatMul", "x w", "p"), ("Add", "p b", "s"), ("Div", "s root", "d"), ("Erf", "d", "e"), ("Add", "e one", "f"),
        ("Mul", "s f", "g"), ("Add", "g r", "y"),
    ]  # fmt: skip
    return graph([helper.make_node(op, i.split(), [o]) for op, i, o in steps], (*batch, rows, depth), weights)


@RUNS
@given(SIZES, SIZES, SIZES, st.sampled_from([(), (1,), (2,), (2, 3)]), MACHINES)
def test_a_constant_matrix_with_bias_gelu_and_residual(rows, depth, columns, batch, machine) -> None:
    assert difference(dense(batch, rows, depth, columns), machine) < FP32_SUMS


@RUNS
@given(SIZES, SIZES, SIZES, st.sampled_from([(1, 1), (3, 3), (3, 1), (1, 3)]), MACHINES)
def test_two_variable_matrices_of_broadcast_batches(rows, depth, columns, batches, machine) -> None:
    left, right = te.placeholder((batches[0], rows, depth)), te.placeholder((batches[1], depth, columns))
    k = te.reduce_axis((0, depth))
    product = te.compute(
        (max(batches), rows, columns),
        lambda b, m, n: te.sum(left[b % batches[0], m, k] * right[b % batches[1], k, n], axis=k),
    )
    scaled = te.compute(product.shape, lambda b, m, n: product[b, m, n] * 0.25 + 1.0)
    rng = np.random.default_rng(2)
    inputs = [rng.normal(size=[int(e) for e in x.shape]).astype("float32") for x in (left, right)]
    got = computed([left, right, scaled], inputs, machine)
    np.testing.assert_allclose(got, inputs[0] @ inputs[1] * 0.25 + 1, atol=FP32_SUMS * depth**0.5)


@RUNS
@given(SIZES, SIZES, SIZES, MACHINES)
def test_a_transposed_right_matrix(rows, depth, columns, machine) -> None:
    left, right = te.placeholder((rows, depth)), te.placeholder((columns, depth))
    k = te.reduce_axis((0, depth))
    product = te.compute((rows, columns), lambda m, n: te.sum(left[m, k] * right[n, k], axis=k))
    rng = np.random.default_rng(3)
    inputs = [rng.normal(size=[int(e) for e in x.shape]).astype("float32") for x in (left, right)]
    got = computed([left, right, product], inputs, machine)
    np.testing.assert_allclose(got, inputs[0] @ inputs[1].T, atol=FP32_SUMS * depth**0.5)


@pytest.mark.parametrize("machine", [WIDE, NARROW], ids=["wide", "narrow"])
def test_what_follows_is_fused_into_one_nest_without_blocks(machine: Machine) -> None:
    [script] = [func.script() for func in functions(dense((1,), 12, 40, 70), machine).values()]
    assert "T.sblock(" not in script.replace('T.sblock("root")', "")
    assert 'scope="local"' in script


def test_a_step_that_reads_other_elements_is_not_fused() -> None:
    x, w = te.placeholder((16, 16)), te.placeholder((16, 16))
    k = te.reduce_axis((0, 16))
    product = te.compute((16, 16), lambda m, n: te.sum(x[m, k] * w[k, n], axis=k))
    turned = te.compute((16, 16), lambda m, n: product[n, m] + 1.0)
    rng = np.random.default_rng(4)
    inputs = [rng.normal(size=(16, 16)).astype("float32") for _ in range(2)]
    got = computed([x, w, turned], inputs, WIDE)
    np.testing.assert_allclose(got, (inputs[0] @ inputs[1]).T + 1, atol=FP32_SUMS * 4)


def test_integers_are_left_to_other_rules() -> None:
    x, w = te.placeholder((4, 9), "int32"), te.placeholder((9, 5), "int32")
    k = te.reduce_axis((0, 9))
    product = te.compute((4, 5), lambda m, n: te.sum(x[m, k] * w[k, n], axis=k))
    inputs = [np.arange(36, dtype="int32").reshape(4, 9), np.arange(45, dtype="int32").reshape(9, 5)]
    np.testing.assert_array_equal(computed([x, w, product], inputs, WIDE), inputs[0] @ inputs[1])
