import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import assert_agrees


@pytest.mark.parametrize("operator", ["Cosh", "Sinh"])
def test_hyperbolic_functions_near_zero_and_far_from_it(operator: str) -> None:
    x = np.array([0.0, 1e-6, -1e-3, 0.5, -0.999, 1.0, 3.0, -20.0, 80.0], np.float32)
    assert_agrees(f"agraph (float[9] x) => (float[9] y) {{ y = {operator} (x) }}", {"x": x})


def test_integer_division_rounds_towards_zero() -> None:
    text = "agraph (int32[4] a, int32[4] b) => (int32[4] y) { y = Div (a, b) }"
    assert_agrees(text, {"a": np.array([7, -7, 7, -7], np.int32), "b": np.array([2, 2, -2, -2], np.int32)})
