from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import answers, assert_agrees, model
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.testing import run_onnxruntime

GIVEN = "agraph (float[3, 1] x, int64[2] a, int64[2] b) => (float[p, q] y)"
COMPUTED = [("(Expand): the shape", "y = Expand (x, a)"), ("(Slice): where it begins", "y = Slice (x, a, b)")]


@pytest.mark.parametrize(("reason", "step"), COMPUTED, ids=["Expand", "Slice"])
def test_sizes_that_depend_on_data_are_refused_with_the_reason(reason: str, step: str) -> None:
    with pytest.raises(UnsupportedOperator) as found:
        import_model(Model.from_proto(model(f"{GIVEN} {{ {step} }}")))
    assert reason in found.value.message


def test_sizes_made_of_open_dimensions_are_taken() -> None:
    text = """agraph (float[n, 4] x, float[1, 4] r) => (float[n, 4] y) {
        shape = Shape (x)
        y = Expand (r, shape)
    }"""
    assert_agrees(text, {"x": np.zeros((3, 4), np.float32), "r": np.arange(4, dtype=np.float32).reshape(1, 4)})


def test_an_empty_constant_is_left_out_so_that_the_library_can_be_read(tmp_path: Path) -> None:
    proto = model("""agraph (float[2, 3] x) => (float[2, 3] y) <int64[2] shape = {2, 0}> {
        nothing = ConstantOfShape (shape)
        y = Concat <axis = 1> (nothing, x)
    }""")
    Tvm().build(Model.from_proto(proto), host(), BuildOptions(tmp_path))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(Tvm().load(tmp_path, host()).run({"x": x})["y"], x)


@pytest.mark.parametrize("group", [1, 4])
def test_convolutions_of_sixteen_bit_floats_are_rounded_once(group: int) -> None:
    """Some sums cancel: rounded at every step, they would keep no digit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 9, 9)).astype(np.float16) * 100
    w = rng.standard_normal((4, 4 // group, 5, 5)).astype(np.float16)
    text = f"""agraph (float16[1, 4, 9, 9] x, float16[4, {4 // group}, 5, 5] w) => (float16[1, 4, 5, 5] y) {{
        y = Conv <group = {group}> (x, w)
    }}"""
    wide = {"x": x.astype(np.float32), "w": w.astype(np.float32)}
    (exact,) = run_onnxruntime(model(text.replace("float16", "float")), wide)
    (found,) = answers(model(text), {"x": x, "w": w})
    assert found.dtype == np.float16
    assert (np.abs(found - exact) <= np.spacing(np.abs(exact).astype(np.float16))).all()
