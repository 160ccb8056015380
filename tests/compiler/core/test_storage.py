"""Files are opened lazily, written whole or not at all, and broken ones are refused, never crashed on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

from lwc.compiler.core import storage
from lwc.compiler.core.errors import BadInput, InvalidGraph, NotAModel, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.storage import MAPPED_BYTES, read_model, write_model

LARGE = MAPPED_BYTES  # values, four bytes each


def proto_with(**weights: NDArray[Any]) -> onnx.ModelProto:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) { y = Identity(x) }"""
    )
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def values(model: ir.Model) -> dict[str, NDArray[Any]]:
    return {
        name: np.array(value.const_value.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


@pytest.fixture
def weights() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "large": rng.standard_normal(LARGE).astype(np.float32),
        "medium": rng.standard_normal(1000).astype(np.float32),
        "small": np.array([1, -1], np.int64),
    }


@pytest.fixture
def path(tmp_path: Path, weights: dict[str, NDArray[Any]]) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto_with(**weights).SerializeToString())
    return path


def test_leaves_large_weights_in_the_file(path: Path, weights: dict[str, NDArray[Any]]) -> None:
    model = read_model(path)
    tensor = model.graph.initializers["large"].const_value
    assert isinstance(tensor, ir.Tensor)
    assert not tensor.numpy().flags.owndata
    assert not tensor.numpy().flags.writeable
    np.testing.assert_array_equal(tensor.numpy(), weights["large"])


@pytest.mark.parametrize("external", [False, True])
def test_writes_what_it_read(external: bool, path: Path, tmp_path: Path, weights: dict[str, NDArray[Any]]) -> None:
    model = read_model(path)
    out = tmp_path / "out.onnx"
    write_model(model, out, external_data=external)
    for again in (read_model(out), ir.load(out)):
        for name, array in values(again).items():
            np.testing.assert_array_equal(array, weights[name])
    assert (tmp_path / "out.onnx.data").exists() is external
    onnx.checker.check_model(str(out))


def test_external_files_hold_all_but_small_weights_on_page_borders(path: Path, tmp_path: Path) -> None:
    write_model(read_model(path), tmp_path / "out.onnx", external_data=True)
    proto = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in proto.graph.initializer
    }
    assert places["small"] == {}
    assert {name: place["location"] for name, place in places.items() if place} == {
        "large": "out.onnx.data",
        "medium": "out.onnx.data",
    }
    assert all(int(place["offset"]) % 4096 == 0 for place in places.values() if place)


def test_what_was_read_of_weights_is_given_back_while_they_are_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    monkeypatch.setattr(storage, "RELEASED_BYTES", 1)
    monkeypatch.setattr(storage, "release_pages", lambda: released.append(1))
    write_model(read_model(path), tmp_path / "out.onnx", external_data=True)
    proto = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    outside = [tensor for tensor in proto.graph.initializer if tensor.external_data]
    assert outside
    assert len(released) == len(outside) + 1


def test_writing_leaves_the_model_as_it_was(path: Path, tmp_path: Path) -> None:
    model = read_model(path)
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    write_model(model, tmp_path / "out.onnx", external_data=True)
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


def test_same_model_same_bytes(path: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_model(read_model(path), tmp_path / name / "out.onnx", external_data=True)
    for file in ("out.onnx", "out.onnx.data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_saves_over_the_file_it_is_mapped_from(
    first: bool, second: bool, path: Path, weights: dict[str, NDArray[Any]]
) -> None:
    write_model(read_model(path), path, external_data=first)
    model = read_model(path)
    for _ in range(3):
        write_model(model, path, external_data=second)
        for held in (model, read_model(path)):
            for name, array in values(held).items():
                np.testing.assert_array_equal(array, weights[name])


def test_replacing_external_data_leaves_no_old_files(path: Path) -> None:
    for expected in ("model.onnx.data", "model.onnx.1.data", "model.onnx.data"):
        write_model(read_model(path), path, external_data=True)
        assert {file.name for file in path.parent.iterdir()} == {"model.onnx", expected}


@pytest.mark.parametrize("external", [False, True])
def test_a_failed_write_leaves_the_old_files(
    external: bool, path: Path, weights: dict[str, NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(read_model(path), path, external_data=True)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    model = read_model(path)
    replace = os.replace

    def fail_for_the_model(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(storage.os, "replace", fail_for_the_model)
    with pytest.raises(UsageError, match="cannot be written"):
        write_model(model, path, external_data=external)
    after = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert {name: after.get(name) for name in before} == before
    for name, array in values(read_model(path)).items():
        np.testing.assert_array_equal(array, weights[name])


def test_an_interrupted_write_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(path)

    def interrupt(_: ir.TensorProtocol) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "contents", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_model(model, tmp_path / "out.onnx", external_data=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_goes_external_by_itself_when_too_large(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "INLINE_BYTES", 1000)
    write_model(read_model(path), tmp_path / "out.onnx", external_data=False)
    assert (tmp_path / "out.onnx.data").exists()


def test_refuses_to_write_to_a_folder(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_model(read_model(path), tmp_path, external_data=False)


@pytest.mark.parametrize("external", [False, True])
def test_refuses_to_write_where_no_folder_is(external: bool, path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(No such file or directory\)"):
        write_model(read_model(path), tmp_path / "gone" / "out.onnx", external_data=external)


def test_refuses_a_path_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'.*gone.onnx' does not exist\."):
        read_model(tmp_path / "gone.onnx")


def test_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="is a folder, not an ONNX file"):
        read_model(tmp_path)


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(NotAModel, match=r"'.*' is empty"):
        read_model(tmp_path / "empty.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"This is no model, but a letter.",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b'{"irVersion": "8", "graph": {}}',
        bytes(1000),
        b"\x08\x08",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n",
    ],
)
def test_refuses_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(NotAModel, match="is not an ONNX model"):
        read_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_model(part: float, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(NotAModel, match="truncated"):
        read_model(path)


def test_refuses_names_that_are_no_text(tmp_path: Path) -> None:
    proto = proto_with(weight=np.zeros(3, np.float32))
    content = proto.SerializeToString().replace(b"weight", b"we\xff\xfeht")
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InvalidGraph, match="is no text: names must be UTF-8"):
        read_model(tmp_path / "model.onnx")


def test_keeps_what_the_graph_says_besides(tmp_path: Path) -> None:
    proto = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "f" : 1], producer_name: "me", model_version: 3,
        metadata_props: ["k": "v"]>
        g (float[N, 3] x) => (float[N, 3] y) { y = f.twice(x) }
        <domain: "f", opset_import: ["" : 21]> twice (a) => (b) { b = Add(a, a) }"""
    )
    proto.graph.node[0].metadata_props.add(key="layer", value="first")
    proto.graph.node[0].name, proto.functions[0].node[0].name = "call", "double"
    proto.functions[0].node[0].ClearField("domain")
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    write_model(read_model(tmp_path / "a.onnx"), tmp_path / "b.onnx", external_data=False)
    assert onnx.load(str(tmp_path / "b.onnx")) == proto


CONTROL_FLOW = parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
    g (float[N, 3] x, bool c) => (float[N, 3] y, float[N, 3] z)
    <float[3] w = {1.0, 2.0, 3.0}, int64[2] s = {-1, 3}> {
        a = If (c) <
            then_branch = t () => (float[N, 3] p) { p = Add(x, w) },
            else_branch = e () => (float[N, 3] q) { k = Constant <value = float {2.0}> () q = Mul(x, k) }
        >
        y = Reshape(a, s)
        z = f.scale <by = 3.0> (y)
    }
    <domain: "f", opset_import: ["" : 17]> scale <by> (v) => (r) {
        k = Constant <value_float: float = @by> ()
        r = Mul(v, k)
    }"""
).SerializeToString()


def outcome(content: bytes, folder: Path) -> str:
    """Opens and can be saved and opened again, or is refused with a sentence; everything else raises."""
    path = folder / "fuzzed.onnx"
    path.write_bytes(content)
    try:
        model = Model.open(path)
    except BadInput as error:
        return type(error).__name__
    model.save(path)
    assert Model.open(path).digest() == model.fork().digest()
    values(model.ir)
    return "opened"


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(flips=st.lists(st.tuples(st.integers(0, len(CONTROL_FLOW) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_open_or_are_refused(flips: list[tuple[int, int]], tmp_path: Path) -> None:
    content = bytearray(CONTROL_FLOW)
    for at, byte in flips:
        content[at] = byte
    assert outcome(bytes(content), tmp_path)


@FUZZ
@given(start=st.integers(0, len(CONTROL_FLOW)), length=st.integers(1, 40), filler=st.binary(max_size=8))
def test_cut_and_stuffed_bytes_open_or_are_refused(start: int, length: int, filler: bytes, tmp_path: Path) -> None:
    assert outcome(CONTROL_FLOW[:start] + filler + CONTROL_FLOW[start + length :], tmp_path)


@pytest.mark.parametrize("size", range(0, len(CONTROL_FLOW), 7))
def test_no_truncation_crashes(size: int, tmp_path: Path) -> None:
    assert outcome(CONTROL_FLOW[:size], tmp_path) in ("NotAModel", "InvalidGraph", "opened")


def test_the_fuzzed_model_itself_opens(tmp_path: Path) -> None:
    assert outcome(CONTROL_FLOW, tmp_path) == "opened"


@pytest.mark.slow
def test_a_model_over_two_gigabytes_opens_and_saves(tmp_path: Path) -> None:
    """600 tensors of 4 MB, sparse on disk."""
    each, count = 1 << 20, 600
    model = proto_with()
    with (tmp_path / "big.data").open("wb") as file:
        file.truncate(4 * each * count)
    for k in range(count):
        tensor = onnx.TensorProto(
            name=f"w{k}", data_type=TensorProto.FLOAT, dims=[each], data_location=onnx.TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="big.data")
        tensor.external_data.add(key="offset", value=str(4 * each * k))
        model.graph.initializer.append(tensor)
    (tmp_path / "big.onnx").write_bytes(model.SerializeToString())
    opened = Model.open(tmp_path / "big.onnx")
    assert opened.parameters() == each * count
    opened.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx.data").stat().st_size == 4 * each * count
    assert Model.open(tmp_path / "copy.onnx").parameters() == each * count
