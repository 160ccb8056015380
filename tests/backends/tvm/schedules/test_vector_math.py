from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tvm")
from tvm import te, tirx

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules import scheduled
from lwc.backends.tvm.testing import NARROW, computed
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
# Of results in float32, against the C library's in float64.
RELATIVE = 1e-6
NORMAL = np.finfo("float32").tiny
FUNCTIONS: dict[str, tuple[Callable[[tirx.Expr], tirx.Expr], Callable[[float], float]]] = {
    "exp": (tirx.exp, lambda x: math.exp(min(x, 700))),
    "log": (tirx.log, lambda x: math.log(x) if x > 0 else math.nan if x < 0 else -math.inf),
    "tanh": (tirx.tanh, math.tanh),
    "erf": (tirx.erf, math.erf),
    "sigmoid": (tirx.sigmoid, lambda x: 1 / (1 + math.exp(min(-x, 700)))),
}
RANGE = np.concatenate(
    [np.linspace(-100, 100, 20_011), np.linspace(-5, 5, 20_011), np.logspace(-30, 2, 300), -np.logspace(-30, 2, 300)]
).astype("float32")


def values(name: str, x: np.ndarray, machine: Machine = WIDE) -> np.ndarray:
    source = te.placeholder(x.shape)
    return computed([source, te.compute(x.shape, lambda i: FUNCTIONS[name][0](source[i]))], [x], machine)


@pytest.mark.parametrize("machine", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_near_the_exact_value_wherever_that_is_a_normal_number(name: str, machine: Machine) -> None:
    want = np.array([FUNCTIONS[name][1](float(x)) for x in RANGE])
    got = values(name, RANGE, machine).astype("float64")
    normal = (np.abs(want) > NORMAL) & (np.abs(want) < np.finfo("float32").max)
    assert np.all(np.abs(got[normal] - want[normal]) <= RELATIVE * np.abs(want[normal]))
    assert np.all(np.abs(got[np.abs(want) <= NORMAL]) <= NORMAL)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", 0, np.inf), ("log", np.nan, np.inf), ("tanh", -1, 1), ("erf", -1, 1), ("sigmoid", 0, 1)],
)
def test_infinities_have_limits_and_nan_stays(name: str, low: float, high: float) -> None:
    got = values(name, np.array([-np.inf, np.inf, np.nan], "float32"))
    np.testing.assert_allclose(got, [low, high, np.nan], rtol=RELATIVE)


def test_log_of_what_is_no_normal_number_and_around_one() -> None:
    x = np.array([0.0, -0.0, 1e-45, 1e-40, NORMAL, np.finfo("float32").max, 1.0, 1 - 2**-24, 1 + 2**-23], "float32")
    with np.errstate(divide="ignore"):
        want = np.log(x.astype("float64"))
    np.testing.assert_allclose(values("log", x), want, rtol=RELATIVE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_is_called(name: str) -> None:
    source = te.placeholder((64,))
    result = te.compute((64,), lambda i: FUNCTIONS[name][0](source[i]))
    func = scheduled(te.create_prim_func([source, result]).with_attr("global_symbol", "main"), WIDE)
    assert f"T.{name}(" not in func.script()


def test_doubles_keep_the_c_library() -> None:
    source = te.placeholder((5,), "float64")
    x = np.linspace(-1, 1, 5)
    got = computed([source, te.compute((5,), lambda i: tirx.exp(source[i]))], [x], WIDE)
    np.testing.assert_allclose(got, np.exp(x), rtol=1e-14)


def test_whole_numbers_are_the_nearest_and_even_halfway() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 4194303.5, 8388609, 3e38, -3e38, 0], "float32")
    source = te.placeholder(x.shape)
    whole = te.compute(x.shape, lambda i: tirx.nearbyint(source[i]))
    np.testing.assert_array_equal(computed([source, whole], [x], WIDE), np.rint(x))
    with_limits = np.array([np.inf, -np.inf, np.nan] * 4, "float32")
    np.testing.assert_array_equal(computed([source, whole], [with_limits], WIDE), with_limits)


def test_functions_of_codes_of_codes_are_vectors() -> None:
    source = te.placeholder((64,), "uint8")

    def codes(value: tirx.Expr) -> tirx.Expr:
        return tirx.min(tirx.max(tirx.nearbyint(value), 0.0), 255.0).astype("uint8").astype("float32")

    result = te.compute((64,), lambda i: codes(codes(tirx.erf(source[i].astype("float32") * 0.01) * 100.0) * 0.5) * 2.0)
    x = np.arange(64, dtype="uint8")
    want = np.rint(np.rint(np.array([math.erf(v * 0.01) for v in x]) * 100) * 0.5) * 2
    np.testing.assert_array_equal(computed([source, result], [x], WIDE), want.astype("float32"))


def test_functions_of_functions_do_not_multiply_the_time_to_compile() -> None:
    steps, x = [te.placeholder((64,))], np.linspace(0, 3, 64, dtype="float32")
    want = x
    for _ in range(8):  # as one expression it would not be done in a day
        steps.append(te.compute((64,), lambda i: tirx.tanh(tirx.sqrt(steps[-1][i]) * 2.0) + 0.5))
        want = np.tanh(np.sqrt(want) * 2) + np.float32(0.5)
    np.testing.assert_allclose(computed([steps[0], steps[-1]], [x], WIDE), want, rtol=1e-5)
