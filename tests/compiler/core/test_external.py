"""External data are found inside the model's folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from lwc.compiler.core.errors import BadExternalData
from lwc.compiler.core.model import Model
from lwc.compiler.core.storage import data_files

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[3] x) => (float[3] y) { y = Add(x, w) }"""
VALUES = np.array([1, 2, 3], np.float32)


def stub(**entries: object) -> onnx.TensorProto:
    """A float[3] named w whose data are elsewhere."""
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    for place in (tmp_path, inner, inner / "sub"):
        (place / "w.bin").write_bytes(b"head" + VALUES.tobytes())
    return inner


def save(tensor: onnx.TensorProto, folder: Path) -> Path:
    model = parser.parse_model(MODEL)
    model.graph.initializer.append(tensor)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def weight(model: Model) -> np.ndarray:
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


def refusal(tensor: onnx.TensorProto, folder: Path) -> str:
    with pytest.raises(BadExternalData) as caught:
        Model.open(save(tensor, folder))
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin"])
def test_reads_data_inside_the_folder(location: str, folder: Path) -> None:
    model = Model.open(save(stub(location=location, offset=4, length=12), folder))
    np.testing.assert_array_equal(weight(model), VALUES)


def test_reads_to_the_shape_when_no_length_is_given(folder: Path) -> None:
    np.testing.assert_array_equal(weight(Model.open(save(stub(location="w.bin", offset=4), folder))), VALUES)


def test_names_the_files_it_maps(folder: Path) -> None:
    model = Model.open(save(stub(location="w.bin", offset=4), folder))
    assert data_files(model.ir) == {(folder / "w.bin").resolve()}


def test_relative_paths_of_models_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(stub(location="w.bin", offset=4), folder)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(weight(Model.open("model.onnx")), VALUES)


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin", "..\\w.bin", "sub/../w.bin"])
def test_refuses_a_way_up(location: str, folder: Path) -> None:
    text = refusal(stub(location=location, offset=4), folder)
    assert text == f"Tensor 'w' has external data outside of the model's folder, '{location}'."


@pytest.mark.parametrize("location", ["/etc/hostname", "C:\\data.bin", "\\\\server\\share\\w.bin"])
def test_refuses_an_absolute_path(location: str, folder: Path) -> None:
    assert "has external data at an absolute path" in refusal(stub(location=location), folder)


def test_refuses_the_absolute_path_of_a_file_in_the_folder(folder: Path) -> None:
    assert "at an absolute path" in refusal(stub(location=folder / "w.bin", offset=4), folder)


def test_refuses_a_symbolic_link_out_of_the_folder(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "w.bin")
    assert "'link.bin', a symbolic link out of the model's folder." in refusal(stub(location="link.bin"), folder)


def test_refuses_a_linked_folder_out_of_the_folder(folder: Path) -> None:
    (folder / "up").symlink_to(folder.parent)
    assert "a symbolic link out of the model's folder" in refusal(stub(location="up/w.bin"), folder)


def test_follows_a_symbolic_link_inside_the_folder(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder / "sub" / "w.bin")
    np.testing.assert_array_equal(weight(Model.open(save(stub(location="link.bin", offset=4), folder))), VALUES)


def test_refuses_data_that_are_missing(folder: Path) -> None:
    text = refusal(stub(location="gone.bin"), folder)
    assert text == "Tensor 'w' has its data in 'gone.bin', which is not beside the model. Copy it there."


def test_refuses_a_folder_in_place_of_data(folder: Path) -> None:
    assert "which is not beside the model" in refusal(stub(location="sub"), folder)


@pytest.mark.parametrize("location", ["", "w\0.bin"])
def test_refuses_a_location_that_is_none(location: str, folder: Path) -> None:
    assert "without a location" in refusal(stub(location=location), folder)


@pytest.mark.parametrize("offset", [5, 16, 1 << 62])
def test_refuses_data_that_end_after_the_file(offset: int, folder: Path) -> None:
    text = refusal(stub(location="w.bin", offset=offset), folder)
    assert f"needs bytes {offset} to {offset + 12} of 'w.bin', which has 16." in text


@pytest.mark.parametrize("length", [0, 8, 16])
def test_refuses_a_length_that_does_not_fit_the_shape(length: int, folder: Path) -> None:
    text = refusal(stub(location="w.bin", length=length), folder)
    assert text == f"Tensor 'w' needs 12 bytes for its shape [3]; its external data has {length}."


@pytest.mark.parametrize("number", ["-4", "four", "4.0", "", "9" * 30, "٤"])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_refuses_a_place_that_is_no_number(key: str, number: str, folder: Path) -> None:
    assert f"has external data with the {key} '{number}'." in refusal(stub(location="w.bin", **{key: number}), folder)


def test_refuses_external_strings(folder: Path) -> None:
    tensor = stub(location="w.bin")
    tensor.data_type = TensorProto.STRING
    assert "holds strings, which cannot be external data." in refusal(tensor, folder)


def test_reads_and_refuses_external_data_of_constants(folder: Path) -> None:
    def model(location: str) -> Path:
        proto = parser.parse_model(MODEL)
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=stub(location=location, offset=4)))
        path = folder / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    constant = next(iter(Model.open(model("w.bin")).graph)).attributes["value"].as_tensor()
    np.testing.assert_array_equal(constant.numpy(), VALUES)
    with pytest.raises(BadExternalData, match="outside of the model's folder"):
        Model.open(model("../w.bin"))


def test_reads_and_refuses_external_data_of_subgraphs(folder: Path) -> None:
    def model(location: str) -> Path:
        proto = parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[3] x, bool c) => (float[3] y) {
                y = If (c) <
                    then_branch = t () => (float[3] p) { p = Add(x, w) },
                    else_branch = e () => (float[3] q) { q = Abs(x) }
                >
            }"""
        )
        proto.graph.node[0].attribute[0].g.initializer.append(stub(location=location, offset=4))
        path = folder / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    opened = Model.open(model("w.bin"))
    inner = [graph for graph in opened.ir.graphs() if "w" in graph.initializers]
    tensor = inner[0].initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), VALUES)
    with pytest.raises(BadExternalData, match="outside of the model's folder"):
        Model.open(model("../w.bin"))


def test_tensors_may_share_their_data(folder: Path) -> None:
    model = parser.parse_model(MODEL.replace("Add(x, w)", "Add(v, w)"))
    for name in ("v", "w"):
        tensor = stub(location="w.bin", offset=4)
        tensor.name = name
        model.graph.initializer.append(tensor)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    opened = Model.open(path)
    arrays = [value.const_value.numpy() for value in opened.graph.initializers.values() if value.const_value]
    np.testing.assert_array_equal(arrays[0], arrays[1])


def test_mapped_values_cannot_be_written_to(folder: Path) -> None:
    array = weight(Model.open(save(stub(location="w.bin", offset=4), folder)))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 7
