from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from lwc.backends import serving
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.errors import BadCalibration, BadInput, InvalidGraph, LwcError, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import NAMED

TARGET = NAMED["cpu:x86-64-v4"].with_threads(1)
ORT = OnnxRuntime()
CHAIN = """agraph (float[batch,4] x) => (float[batch,4] y) <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
    [product] m = MatMul (x, w)
    [rectifier] r = Relu (m)
    [sine] y = Sin (r)
}"""


def read(text: str, opset: int = 17, domains: str = "") -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{domains}]>\n{text}'))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def test_session_runs_a_model_from_memory() -> None:
    found = ORT.session(read(CHAIN), TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)


def test_session_names_its_ports_with_types_and_symbols() -> None:
    session = ORT.session(read(CHAIN), TARGET)
    assert [(p.name, p.dtype, p.shape) for p in session.inputs] == [("x", np.float32, ("batch", 4))]
    assert [p.name for p in session.outputs] == ["y"]


def test_session_returns_tapped_values_and_leaves_the_model_alone() -> None:
    model = read(CHAIN)
    found = ORT.session(model, TARGET, ["m", "y", "x", "m"]).run({"x": -ones(1, 4)})
    assert list(found) == ["y", "m", "x"]
    np.testing.assert_array_equal(found["m"], -ones(1, 4))
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_tapping_an_unknown_value_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="no value 'ghost'"):
        ORT.session(read(CHAIN), TARGET, ["ghost"])


def test_session_ignores_arrays_that_are_no_inputs() -> None:
    found = ORT.session(read(CHAIN), TARGET).run({"x": ones(2, 4), "label": np.array(3)})
    assert list(found) == ["y"]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"z": ones(2, 4)}, r"no array for input 'x' \(given: z\)"),
        ({"x": np.ones((2, 4))}, "input 'x' is float64; the model takes float32"),
        ({"x": ones(4)}, r"input 'x' has shape \[4\]; the model takes \['batch', 4\]"),
        ({"x": ones(2, 5)}, r"input 'x' has shape \[2, 5\]"),
        ({"x": [[1.0] * 4]}, "input 'x' is a list"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(BadCalibration, match=message) as raised:
        ORT.session(read(CHAIN), TARGET).run(feeds)
    assert "\n" not in str(raised.value)


def test_overridable_initializer_may_be_given_or_not() -> None:
    text = "agraph (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }"
    session = ORT.session(read(text), TARGET)
    np.testing.assert_array_equal(session.run({"x": ones(2)})["y"], [2, 3])
    np.testing.assert_array_equal(session.run({"x": ones(2), "w": ones(2)})["y"], [2, 2])


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_types_numpy_does_not_have_go_in_and_out(dtype: Any) -> None:
    name = {"bfloat16": "bfloat16", "float8_e4m3fn": "float8e4m3fn", "float8_e5m2": "float8e5m2"}[np.dtype(dtype).name]
    model = read(
        f"agraph ({name}[2] x, float[2] z) => ({name}[2] y, float[2] u) {{ y = Identity (x)\n u = Sin (z) }}", 19
    )
    x = np.array([1.5, -2.0], dtype)
    found = ORT.session(model, TARGET).run({"x": x, "z": ones(2)})
    assert found["y"].dtype == dtype
    np.testing.assert_array_equal(found["y"].astype(np.float32), x.astype(np.float32))


def test_failing_run_is_our_error_on_one_line() -> None:
    text = "agraph (float[2,3] x, int64[n] s) => (float[a] y) { [shaper] y = Reshape (x, s) }"
    with pytest.raises(LwcError, match="shaper") as raised:
        ORT.session(read(text), TARGET).run({"x": ones(2, 3), "s": np.array([5])})
    assert "\n" not in str(raised.value)


def test_unknown_operator_is_named() -> None:
    with pytest.raises(UnsupportedOperator, match="Frobnicate"):
        ORT.session(read("agraph (float[2] x) => (float[2] y) { y = Frobnicate (x) }"), TARGET)


def test_wrong_types_are_an_invalid_graph() -> None:
    with pytest.raises(InvalidGraph, match="bool"):
        ORT.session(read("agraph (bool[2] x) => (bool[2] y) { y = Abs (x) }"), TARGET)


def test_supports_names_the_nodes_of_unknown_domains() -> None:
    text = "agraph (float[2] x) => (float[2] y) { [odd] t = acme.Spin (x)\n y = Relu (t) }"
    support = ORT.supports(read(text, domains=', "acme" : 1'), TARGET)
    assert not support
    assert list(support.refused) == ["odd"]
    assert "acme:Spin" in support.refused["odd"]


def test_supports_a_foreign_operator_the_runtime_has() -> None:
    text = "agraph (float[2] x) => (float[2] y) { y = com.microsoft.Gelu (x) }"
    assert ORT.supports(read(text, domains=', "com.microsoft" : 1'), TARGET)


def test_supports_names_the_node_that_fails_to_load() -> None:
    text = "agraph (float[2] x) => (float[2] y) { t = Relu (x)\n [odd] y = Frobnicate (t) }"
    assert list(ORT.supports(read(text), TARGET).refused) == ["odd"]


def test_large_models_go_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IN_MEMORY_BYTES", 16)
    found = ORT.session(read(CHAIN), TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)


def test_external_data_is_read_for_sessions_from_memory(tmp_path: Path) -> None:
    read(CHAIN).save(tmp_path / "m.onnx", external_data=True)
    model = Model.open(tmp_path / "m.onnx")
    found = ORT.session(model, TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)
    kinds = [type(value.const_value) for value in model.graph.initializers.values()]
    assert all(not issubclass(kind, ir.Tensor) for kind in kinds), "the model itself keeps its files"


def test_profile_tells_the_time_of_every_node_by_its_name() -> None:
    text = "agraph (float[1,8,16,16] x, float[8,8,1,1] w) => (float[1,8,16,16] y) { [s] t = Sin (x)\n [c] y = Cos (t) }"
    times = ORT.profile(read(text), TARGET, [{"x": ones(1, 8, 16, 16), "w": ones(8, 8, 1, 1)}], runs=3)
    assert set(times) == {"s", "c"}
    assert all(ms >= 0 for ms in times.values())


def test_profile_finds_a_convolution_behind_layout_and_activation() -> None:
    weight = ", ".join(["0.5"] * 256)
    text = f"""agraph (float[1,16,8,8] x) => (float[1,16,8,8] y) <float[16,16,1,1] w = {{{weight}}}> {{
        [first] a = Conv (x, w)
        [rectifier] r = Relu (a)
        [second] b = Conv (r, w)
        [sum] y = Add (b, r)
    }}"""
    profile = ORT.detailed_profile(read(text), TARGET, [{"x": ones(1, 16, 8, 8)}], runs=3)
    found = {kernel.node for kernel in profile.kernels if kernel.op == "Conv"}
    assert found == {"first", "second"}


def test_build_writes_a_model_that_loads(tmp_path: Path) -> None:
    assert ORT.build(read(CHAIN), TARGET, BuildOptions(tmp_path)) == ("model.onnx",)
    found = ORT.load(tmp_path, TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)


def test_build_keeps_weights_beside_the_model_when_asked(tmp_path: Path) -> None:
    files = ORT.build(read(CHAIN), TARGET, BuildOptions(tmp_path, external_data=True))
    assert files == ("model.onnx", "model.onnx.data")
    assert ORT.load(tmp_path, TARGET).run({"x": ones(1, 4)})["y"].shape == (1, 4)


def test_portable_build_refuses_operators_of_other_domains(tmp_path: Path) -> None:
    model = read("agraph (float[2] x) => (float[2] y) { y = com.microsoft.Gelu (x) }", domains=', "com.microsoft" : 1')
    with pytest.raises(UnsupportedOperator, match=r"com\.microsoft:Gelu"):
        ORT.build(model, TARGET, BuildOptions(tmp_path, portable=True))
    assert list(tmp_path.iterdir()) == []


def test_loading_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no model\.onnx"):
        ORT.load(tmp_path, TARGET)


def test_version_names_runtime_and_number() -> None:
    assert ORT.version().startswith("onnxruntime 1.")
