import numpy as np
import onnx.reference
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import answers, assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("attributes", "block", "count"),
    [
        ("strides = [1, 1]", (2, 3), 16),
        ("strides = [2, 3]", (2, 3), 4),
        ("strides = [3, 1]", (2, 2), 10),
        ("dilations = [2, 1]", (2, 3), 12),
        ("pads = [1, 0, 2, 1]", (2, 3), 7 * 5),
    ],
)
def test_columns_that_overlap_are_summed(attributes: str, block: tuple[int, int], count: int) -> None:
    rows = 2 * block[0] * block[1]
    text = f"""<ir_version: 8, opset_import: ["" : 18]> agraph (float[2, {rows}, {count}] x) => (float[2, 2, 5, 6] y)
    <int64[2] image = {{5, 6}}, int64[2] block = {{{block[0]}, {block[1]}}}> {{
        y = Col2Im <{attributes}> (x, image, block)
    }}"""
    assert_agrees(text, {"x": floats(2, rows, count)})


CACHE = """<ir_version: 13, opset_import: ["" : 24]> agraph (float[2, 3, 5, 2] cache, float[2, 3, 2, 2] update{starts})
=> (float[2, 3, 5, 2] y) {{ y = TensorScatter <{mode}> (cache, update{given}) }}"""


@pytest.mark.parametrize(
    ("mode", "starts"), [("axis = -2", (0, 3)), ('mode = "circular"', (4, 8)), ('mode = "linear"', None)]
)
def test_each_batch_writes_into_the_cache_where_it_stands(mode: str, starts: tuple[int, int] | None) -> None:
    declared, given = (", int64[2] starts", ", starts") if starts else ("", "")
    proto = model(CACHE.format(mode=mode, starts=declared, given=given))
    feeds = {"cache": floats(2, 3, 5, 2), "update": floats(2, 3, 2, 2)}
    if starts:
        feeds["starts"] = np.array(starts, np.int64)
    (want,) = onnx.reference.ReferenceEvaluator(proto).run(None, feeds)
    (got,) = answers(proto, feeds)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scattered_elements_with_indices_from_both_ends(reduction: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[3, 4] x, int64[2, 3] i, float[2, 3] u) => (float[3, 4] y) {{
        y = ScatterElements <axis = 1, reduction = "{reduction}"> (x, i, u)
    }}"""
    repeated = np.array([[0, -1, 1], [3, -4, 2]]) if reduction == "none" else np.array([[0, -4, 1], [-1, 3, 3]])
    assert_agrees(text, {"x": floats(3, 4), "i": repeated, "u": floats(2, 3)})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scattered_slices_with_indices_from_both_ends(reduction: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[3, 4, 2] x, int64[3, 2] i, float[3, 2] u) => (float[3, 4, 2] y) {{
        y = ScatterND <reduction = "{reduction}"> (x, i, u)
    }}"""
    last = [2, 3] if reduction == "none" else [0, 0]
    assert_agrees(text, {"x": floats(3, 4, 2), "i": np.array([[0, -4], [-1, 1], last]), "u": floats(3, 2)})


def test_an_image_whose_size_is_known_only_at_run_time_is_refused() -> None:
    proto = model("""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[1, 4, 4] x, int64[2] image) => (float[1, 1, a, b] y) <int64[2] block = {2, 2}> {
        y = Col2Im (x, image, block)
    }""")
    with pytest.raises(UnsupportedOperator, match=r"\(Col2Im\): the image's shape must be constant"):
        import_model(Model.from_proto(proto))
