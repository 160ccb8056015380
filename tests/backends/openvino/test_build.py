import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import psutil
import pytest

pytest.importorskip("openvino")

from lwc import backends
from lwc.backends import serving
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.openvino.build import OpenVino
from lwc.backends.openvino.compiled import core
from lwc.backends.openvino.session import OpenVinoSession
from lwc.compiler.core.backend import BuildOptions, Session
from lwc.compiler.core.errors import BadCalibration, BadInput, LwcError, UnsupportedOperator
from lwc.compiler.core.float_format import mark_float_format
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import NAMED, host
from lwc.compiler.testing import disagreement
from lwc.models import tiny

TARGET = NAMED["cpu:x86-64-v4"].with_threads(1)
OV = OpenVino()
ORT = OnnxRuntime()
GRAPHS = tiny.all_graphs()
# Graphs on which the two runtimes differ by more than rounding, and which one the reference of the ONNX package backs.
DIFFERENT = {
    "pad_max_pool": "ONNX Runtime (1.31) loses the zeros of a Pad in front of MaxPool; OpenVINO is right",
    "int4_weight": "ONNX Runtime (1.31) rounds the activations of a product with int4 weights; OpenVINO is right",
    "double": "OpenVINO computes in float32",
}
HERE = OV.narrow(host())
CHAIN = """agraph (float[batch,4] x) => (float[batch,4] y) <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
    [product] m = MatMul (x, w)
    [rectifier] r = Relu (m)
    [sine] y = Sin (r)
}"""


def read(text: str, opset: int = 17, domains: str = "") -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{domains}]>\n{text}'))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def option(session: Session, name: str) -> Any:
    assert isinstance(session, OpenVinoSession)
    return session._executables.any_shapes.model.get_property(name)


def test_backend_is_found_by_name() -> None:
    assert backends.get("openvino").name == "openvino"


def test_version_names_runtime_and_number() -> None:
    assert OV.version().startswith("openvino 20")


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in {*tiny.NOT_RUNNABLE, *DIFFERENT}])
def test_tiny_graph_gives_what_onnx_runtime_gives_or_is_refused_with_a_reason(name: str) -> None:
    model = Model(GRAPHS[name](), name)
    support = OV.supports(model, TARGET)
    if not support:
        assert all(support.refused.values())
        return
    feeds = tiny.feeds(model.ir)
    expected, found = ORT.session(model, TARGET).run(feeds), OV.session(model, TARGET).run(feeds)
    assert list(found) == list(expected)
    assert not disagreement(list(expected.values()), list(found.values()))


def test_session_names_its_ports_with_types_and_symbols() -> None:
    session = OV.session(read(CHAIN), TARGET)
    assert [(p.name, p.dtype, p.shape) for p in session.inputs] == [("x", np.float32, ("batch", 4))]
    assert [p.name for p in session.outputs] == ["y"]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_dynamic_dimension_takes_any_size(batch: int) -> None:
    x = np.arange(4.0 * batch, dtype=np.float32).reshape(batch, 4)
    found = OV.session(read(CHAIN), TARGET).run({"x": x})
    np.testing.assert_allclose(found["y"], np.sin(x), rtol=1e-5, atol=1e-6)


def test_results_of_one_run_survive_the_next() -> None:
    session = OV.session(read(CHAIN), TARGET)
    first = session.run({"x": ones(2, 4)})["y"]
    session.run({"x": -ones(2, 4)})
    np.testing.assert_allclose(first, np.sin(ones(2, 4)), rtol=1e-6)


def test_session_returns_tapped_values_and_leaves_the_model_alone() -> None:
    model = read(CHAIN)
    found = OV.session(model, TARGET, ["m", "y", "x", "m"]).run({"x": -ones(1, 4)})
    assert list(found) == ["y", "m", "x"]
    np.testing.assert_array_equal(found["m"], -ones(1, 4))
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_input_that_no_node_reads_may_be_given() -> None:
    session = OV.session(read("agraph (float[2] x, float[2] idle) => (float[2] y) { y = Sin (x) }"), TARGET)
    assert [p.name for p in session.inputs] == ["x", "idle"]
    assert session.run({"x": ones(2), "idle": ones(2)})["y"].shape == (2,)


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
        OV.session(read(CHAIN), TARGET).run(feeds)
    assert "\n" not in str(raised.value)


def test_default_of_an_input_cannot_be_replaced() -> None:
    text = "agraph (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }"
    session = OV.session(read(text), TARGET)
    np.testing.assert_array_equal(session.run({"x": ones(2)})["y"], [2, 3])
    with pytest.raises(BadCalibration, match="default of input 'w'"):
        session.run({"x": ones(2), "w": ones(2)})


def test_types_numpy_does_not_have_go_in_and_out() -> None:
    model = read("agraph (bfloat16[2] x) => (bfloat16[2] y) { y = Neg (x) }")
    x = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    found = OV.session(model, TARGET).run({"x": x})["y"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype(np.float32), [-1.5, 2.0])


def test_supports_names_the_operator_it_cannot_read() -> None:
    text = "agraph (float[2] x) => (float[2] y) { [odd] t = acme.Spin (x)\n y = Relu (t) }"
    support = OV.supports(read(text, domains=', "acme" : 1'), TARGET)
    assert not support
    assert list(support.refused) == ["odd"]
    assert "Spin" in support.refused["odd"]
    assert "\n" not in support.refused["odd"]


def test_supports_names_the_node_it_cannot_convert() -> None:
    text = "agraph (float[2,3] x) => (float[a] y) { t = Relu (x)\n [shaper] y = Reshape (t, x) }"
    support = OV.supports(read(text), TARGET)
    assert list(support.refused) == ["shaper"]
    assert "integral" in support.refused["shaper"]


def test_supports_names_the_node_it_cannot_run() -> None:
    text = "agraph (float[2,3] x, int64[n] s) => (float[a] y) { [shaper] t = Reshape (x, s)\n y = Relu (t) }"
    support = OV.supports(read(text), TARGET)
    assert list(support.refused) == ["shaper"]
    assert "dynamic rank" in support.refused["shaper"]


def test_refused_model_raises_our_error() -> None:
    with pytest.raises(UnsupportedOperator, match="Spin"):
        OV.session(read("agraph (float[2] x) => (float[2] y) { y = acme.Spin (x) }", domains=', "acme" : 1'), TARGET)


def test_failing_run_is_our_error_on_one_line() -> None:
    text = "agraph (float[a,b] x, float[c,d] z) => (float[a,d] y) { [product] y = MatMul (x, z) }"
    with pytest.raises(LwcError) as raised:
        OV.session(read(text), TARGET).run({"x": ones(2, 3), "z": ones(4, 5)})
    assert "\n" not in str(raised.value)


def test_threads_are_those_of_the_target() -> None:
    assert option(OV.session(read(CHAIN), TARGET), "INFERENCE_NUM_THREADS") == 1
    cores = psutil.cpu_count(logical=False) or 1
    assert option(OV.session(read(CHAIN), TARGET.with_threads(2)), "INFERENCE_NUM_THREADS") == min(2, cores)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell")
def test_running_leaves_the_callers_affinity_alone() -> None:
    before = os.sched_getaffinity(0)
    OV.session(read(CHAIN), TARGET).run({"x": ones(2, 4)})
    assert os.sched_getaffinity(0) == before


def test_float32_is_not_narrowed_unasked() -> None:
    assert option(OV.session(read(CHAIN), TARGET), "INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.parametrize(("name", "precision"), [("bf16", "bf16"), ("fp16", "f16")])
def test_marked_model_runs_in_its_format_from_memory_and_from_the_ir(name: str, precision: str, tmp_path: Path) -> None:
    if name not in HERE.choices:
        pytest.skip(f"this CPU has no {name}")
    model = read(CHAIN)
    mark_float_format(model.ir, name)
    assert option(OV.session(model, TARGET), "INFERENCE_PRECISION_HINT").to_string() == precision
    OV.build(model, TARGET, BuildOptions(tmp_path))
    assert option(OV.load(tmp_path, TARGET), "INFERENCE_PRECISION_HINT").to_string() == precision


def test_narrow_offers_formats_by_hint_where_the_cpu_has_them() -> None:
    found = OV.narrow(replace(TARGET, features=TARGET.features | {"avx512_bf16", "avx512_fp16"}))
    capable = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (found.bf16_by_hint, found.fp16_by_hint) == ("BF16" in capable, "FP16" in capable)
    assert ("bf16" in found.choices, "fp16" in found.choices) == (found.bf16_by_hint, found.fp16_by_hint)


def test_narrow_offers_no_format_that_the_target_lacks() -> None:
    found = OV.narrow(replace(TARGET, choices=("float", "int8", "int8-dynamic", "fp8")))
    assert not found.bf16_by_hint
    assert not found.fp16_by_hint
    assert found.choices == ("float", "int8")


def test_large_models_go_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IN_MEMORY_BYTES", 16)
    found = OV.session(read(CHAIN), TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)


def test_build_writes_an_ir_beside_the_model(tmp_path: Path) -> None:
    assert OV.build(read(CHAIN), TARGET, BuildOptions(tmp_path)) == ("model.bin", "model.onnx", "model.xml")
    found = OV.load(tmp_path, TARGET).run({"x": ones(2, 4)})
    np.testing.assert_allclose(found["y"], np.sin(ones(2, 4)), rtol=1e-6)


def test_ir_loads_without_the_onnx_model_and_knows_its_ports(tmp_path: Path) -> None:
    OV.build(read(CHAIN), TARGET, BuildOptions(tmp_path))
    (tmp_path / "model.onnx").unlink()
    session = OV.load(tmp_path, TARGET)
    assert [(p.name, p.dtype, p.shape) for p in session.inputs] == [("x", np.float32, ("batch", 4))]
    np.testing.assert_allclose(session.run({"x": ones(3, 4)})["y"], np.sin(ones(3, 4)), rtol=1e-6)


def test_onnx_model_loads_without_the_ir(tmp_path: Path) -> None:
    OV.build(read(CHAIN), TARGET, BuildOptions(tmp_path))
    (tmp_path / "model.xml").unlink()
    assert OV.load(tmp_path, TARGET).run({"x": ones(1, 4)})["y"].shape == (1, 4)


def test_loading_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"neither model\.xml nor model\.onnx"):
        OV.load(tmp_path, TARGET)


def test_loading_a_damaged_ir_is_our_error(tmp_path: Path) -> None:
    OV.build(read(CHAIN), TARGET, BuildOptions(tmp_path))
    (tmp_path / "model.xml").write_text("<net/>", encoding="utf-8")
    with pytest.raises(BadInput):
        OV.load(tmp_path, TARGET)


def test_portable_build_refuses_operators_of_other_domains(tmp_path: Path) -> None:
    model = read("agraph (float[2] x) => (float[2] y) { y = com.microsoft.Gelu (x) }", domains=', "com.microsoft" : 1')
    with pytest.raises(UnsupportedOperator, match=r"com\.microsoft:Gelu"):
        OV.build(model, TARGET, BuildOptions(tmp_path, portable=True))
    assert list(tmp_path.iterdir()) == []


def test_profile_tells_time_by_the_names_of_nodes() -> None:
    weight = ", ".join(["0.5"] * 256)
    model = read(f"""agraph (float[1,16,32,32] x) => (float[1,16,32,32] y) <float[16,16,1,1] w = {{{weight}}}> {{
        [first] a = Conv (x, w)
        [rectifier] r = Relu (a)
        [second] b = Conv (r, w)
        [root] q = Sqrt (b)
        [sum] y = Add (q, r)
    }}""")
    times = OV.profile(model, TARGET, [{"x": np.abs(ones(1, 16, 32, 32))}], runs=3)
    assert {"first", "second"} <= set(times)
    assert set(times) <= {node.name for node in model.graph}
    assert all(ms >= 0 for ms in times.values())


def test_quantized_convolution_runs_on_integers() -> None:
    model = read(_quantized_convolution())
    session = OV.session(model, TARGET)
    assert isinstance(session, OpenVinoSession)
    precisions = {
        str(op.get_rt_info()["layerType"].value): str(op.get_rt_info()["runtimePrecision"].value)
        for op in session._executables.any_shapes.model.get_runtime_model().get_ordered_ops()
    }
    assert precisions["Convolution"] in ("u8", "i8")


def _quantized_convolution() -> str:
    weight = ", ".join(["3"] * 256)
    scales = ", ".join(["0.01"] * 16)
    zeros = ", ".join(["0"] * 16)
    return f"""agraph (float[1,16,16,16] x) => (float[1,16,16,16] y)
    <int8[16,16,1,1] w = {{{weight}}}, float[16] ws = {{{scales}}}, int8[16] wz = {{{zeros}}},
     float s = {{0.02}}, uint8 z = {{128}}> {{
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear <axis = 0> (w, ws, wz)
        [conv] y = Conv (d, k)
    }}"""


def test_graph_of_ir_tensors_is_left_alone() -> None:
    model = read(CHAIN)
    before = model.digest()
    OV.session(model, TARGET)
    assert model.digest() == before
    assert all(isinstance(value.const_value, ir.TensorProtocol) for value in model.graph.initializers.values())
