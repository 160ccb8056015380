import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

LOOP = """agraph (float[2] x{extra}) => (float[2] last, float[?, 2] all) {{
    {trips}
    go = Constant <value = bool {{1}}> ()
    last, all = Loop (trips, go, x) <body = body
        (int64 k, bool going, float[2] v) => (bool on, float[2] w, float[2] s) {{
        on = Identity (going)
        f = CastLike (k, v)
        w = Add (v, f)
        s = Mul (w, x)
    }}>
}}"""


def test_loop_of_a_known_count_counts_and_reads_values_around_it() -> None:
    trips = "trips = Constant <value_int = 3> ()"
    assert_agrees(LOOP.format(extra="", trips=trips), {"x": np.array([1, -2], np.float32)})


def test_loop_of_an_unknown_count_is_refused() -> None:
    proto = model(LOOP.format(extra=", int64 trips", trips=""))
    with pytest.raises(UnsupportedOperator, match=r"\(Loop\): its trip count must be constant"):
        import_model(Model.from_proto(proto))


@pytest.mark.parametrize("flag", [True, False])
def test_if_takes_the_branch_of_the_run(flag: bool) -> None:
    text = """agraph (bool flag, float[2] x) => (float[2] y) {
        y = If (flag) <
            then_branch = a () => (float[2] p) { p = Neg (x) },
            else_branch = b () => (float[2] q) { q = Exp (x) }>
    }"""
    assert_agrees(text, {"flag": np.array(flag), "x": np.array([1, 2], np.float32)})


def test_scan_backwards_puts_its_outputs_in_order() -> None:
    text = """agraph (float[2] h, float[3, 2] x) => (float[2] last, float[3, 2] all) {
        last, all = Scan <num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1], body = body
            (float[2] a, float[2] b) => (float[2] c, float[2] d) { c = Sub (b, a) d = Identity (c) }> (h, x)
    }"""
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert_agrees(text, {"h": np.ones(2, np.float32), "x": x})
