import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm")

from lwc import backends
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.tvm import build, specialized
from lwc.backends.tvm.build import CONTENTS, Tvm
from lwc.backends.tvm.session import TvmSession
from lwc.backends.tvm.specialized import Specialized
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.errors import BadCalibration, BadInput, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.testing import disagreement
from lwc.models import tiny

HERE = host()
TVM = Tvm()
ORT = OnnxRuntime()
# Small, and different in what they ask of shapes, types and outputs.
NAMES = ("conv_bn_relu", "classifier", "matmul_add_3d", "dynamic_image", "dropout_mask_is_output", "input_is_output")
OPEN = """agraph (float[n,4] x) => (float[n,4] y) <float[4,4] w = {1,0,0,0, 0,2,0,0, 0,0,3,0, 0,0,0,4}> {
    m = MatMul (x, w)
    y = Relu (m)
}"""
FOREIGN = "agraph (float[3] x) => (float[3] y) { [strange] y = mine.Op (x) }"


def read(text: str, domains: str = "") -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17{domains}]>\n{text}'))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def scaled(rows: int) -> list[list[float]]:
    return [[1.0, 2.0, 3.0, 4.0]] * rows


def built(model: Model, folder: Path, **shapes: tuple[int, ...]) -> Specialized:
    TVM.build(model, HERE, BuildOptions(folder, shapes=[shapes]))
    session = TVM.load(folder, HERE)
    assert isinstance(session, Specialized)
    return session


def test_backend_is_found_by_name() -> None:
    assert backends.get("tvm").name == "tvm"


def test_version_names_runtime_and_number() -> None:
    assert TVM.version().startswith("tvm 0.")


def test_weights_of_8_and_4_bits_are_executed() -> None:
    found = TVM.narrow(replace(HERE, choices=("float", "int8", "int8-dynamic", "w16", "w8", "w4"))).choices
    assert found[:4] == ("float", "int8", "w8", "w4")
    assert not {"int8-dynamic", "w16"} & set(found)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_graph_gives_what_onnx_runtime_gives_from_memory_and_from_files(name: str, tmp_path: Path) -> None:
    model = Model(tiny.all_graphs()[name](), name)
    feeds = tiny.feeds(model.ir)
    expected = ORT.session(model, HERE).run(feeds)
    shapes = {name: array.shape for name, array in feeds.items()}
    for session in (TVM.session(model, HERE), built(model, tmp_path, **shapes)):
        found = session.run(feeds)
        assert list(found) == list(expected)
        assert not disagreement(list(expected.values()), list(found.values()))


def test_open_dimensions_are_compiled_for_the_shapes_that_come_first() -> None:
    session = TVM.session(read(OPEN), HERE)
    assert session.inputs[0].shape == ("n", 4)
    assert session.run({"x": ones(2, 4)})["y"].tolist() == scaled(2)
    assert isinstance(session, Specialized)
    assert isinstance(session.of(((2, 4),)), TvmSession)


def test_other_shapes_are_compiled_for_once_they_are_steady() -> None:
    session = TVM.session(read(OPEN), HERE)
    assert isinstance(session, Specialized)
    kinds = [isinstance(session.of(((rows, 4),)), TvmSession) for rows in (2, 3, 3, 2, 3, 3, 3)]
    assert kinds == [True, False, False, True, False, False, True]


def test_no_more_than_a_few_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialized, "MOST_SHAPES", 1)
    monkeypatch.setattr(specialized, "STEADY_RUNS", 1)
    session = TVM.session(read(OPEN), HERE)
    for rows in (2, 3, 2):
        assert session.run({"x": ones(rows, 4)})["y"].tolist() == scaled(rows)


def test_artifact_runs_the_shapes_it_was_built_for_and_others(tmp_path: Path) -> None:
    session = built(read(OPEN), tmp_path, x=(2, 4), labels=(7,))
    assert isinstance(session.of(((2, 4),)), TvmSession)
    assert not isinstance(session.of(((5, 4),)), TvmSession)
    for rows in (2, 5):
        assert session.run({"x": ones(rows, 4)})["y"].tolist() == scaled(rows)


def test_artifact_of_open_shapes_is_compiled_when_it_runs(tmp_path: Path) -> None:
    session = built(read(OPEN), tmp_path)
    assert session.run({"x": ones(3, 4)})["y"].tolist() == scaled(3)


def test_without_onnx_runtime_other_shapes_are_compiled_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "available", lambda: ("tvm",))
    session = built(read(OPEN), tmp_path, x=(2, 4))
    assert isinstance(session.of(((5, 4),)), TvmSession)


@pytest.mark.parametrize("x", [ones(2, 5), ones(2), ones(2, 4).astype(np.float64)], ids=str)
def test_arrays_that_do_not_fit_are_refused(x: Any) -> None:
    with pytest.raises(BadCalibration, match="'x'"):
        TVM.session(read(OPEN), HERE).run({"x": x})


def test_an_input_with_a_default_cannot_be_given() -> None:
    text = "agraph (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Mul (x, w) }"
    session = TVM.session(read(text), HERE)
    assert session.run({"x": ones(2)})["y"].tolist() == [1, 2]
    with pytest.raises(BadCalibration, match="'w'"):
        session.run({"x": ones(2), "w": ones(2)})


def test_inner_values_can_be_asked_for() -> None:
    found = TVM.session(read(OPEN), HERE, ["m"]).run({"x": -ones(1, 4)})
    assert found["m"].tolist() == [[-1, -2, -3, -4]]
    assert found["y"].tolist() == [[0, 0, 0, 0]]


def test_an_unknown_operator_is_refused_by_name() -> None:
    model = read(FOREIGN, ', "mine" : 1')
    assert "strange" in TVM.supports(model, HERE).refused
    with pytest.raises(UnsupportedOperator, match="strange"):
        TVM.session(model, HERE)


def test_a_folder_without_its_contents_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        TVM.load(tmp_path, HERE)


def test_contents_that_are_damaged_are_bad_input(tmp_path: Path) -> None:
    built(read(OPEN), tmp_path, x=(2, 4))
    (tmp_path / CONTENTS).write_text("{}")
    with pytest.raises(BadInput):
        TVM.load(tmp_path, HERE)


def test_contents_name_the_parts_of_each_set_of_shapes(tmp_path: Path) -> None:
    built(read(OPEN), tmp_path, x=(2, 4))
    contents = json.loads((tmp_path / CONTENTS).read_text())
    assert contents["variants"] == [{"shapes": [[2, 4]], "parts": ["model"]}]


def test_several_shapes_are_compiled_for_and_share_their_weights(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    proto = read("agraph (float[n,64] x, float[64,64] w) => (float[n,64] y) { y = MatMul (x, w) }").to_proto()
    del proto.graph.input[1]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    TVM.build(Model.from_proto(proto), HERE, BuildOptions(tmp_path, shapes=[{"x": (n, 64)} for n in (64, 96, 64, 65)]))
    assert TVM.built_for(tmp_path) == [{"x": (64, 64)}, {"x": (96, 64)}, {"x": (65, 64)}]
    assert [path.name for path in tmp_path.glob("*.weights")] == ["model.weights"]
    assert (tmp_path / "model.weights").stat().st_size < 3 * weight.nbytes
    session: Any = TVM.load(tmp_path, HERE)
    for rows in (64, 65, 96, 3):
        x = np.random.default_rng(rows).normal(size=(rows, 64)).astype(np.float32)
        np.testing.assert_allclose(session.run({"x": x})["y"], x @ weight, atol=1e-4)
        assert isinstance(session.of(((rows, 64),)), TvmSession) == (rows != 3)


def test_no_time_leaves_the_first_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SECONDS_FOR_MORE", -1.0)
    TVM.build(read(OPEN), HERE, BuildOptions(tmp_path, shapes=[{"x": (2, 4)}, {"x": (3, 4)}]))
    assert TVM.built_for(tmp_path) == [{"x": (2, 4)}]
