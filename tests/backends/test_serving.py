from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from lwc.backends import serving
from lwc.backends.onnxruntime import build
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.serving import blame, handed_over, referred
from lwc.compiler.core.errors import BadInput, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

CHAIN = "agraph (float[4] x) => (float[4] y) <float[4] w = {1,2,3,4}> { [product] t = Mul (x, w)\n [sine] y = Sin (t) }"


def chain() -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{CHAIN}'))


def test_small_model_is_handed_over_as_bytes() -> None:
    with handed_over(chain()) as source:
        assert isinstance(source, bytes)
        assert onnx.load_from_string(source).graph.node[0].name == "product"


def test_large_model_is_a_file_as_long_as_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IN_MEMORY_BYTES", 8)
    with handed_over(chain()) as source:
        assert isinstance(source, Path)
        assert onnx.load(source).graph.node[0].name == "product"
    assert not source.exists()


def large(path: Path, *, external: bool) -> Path:
    """y = (x W) V with weights of 64 KB each."""
    rng = np.random.default_rng(0)
    made = [numpy_helper.from_array(rng.standard_normal((128, 128)).astype(np.float32), name) for name in "WV"]
    nodes = [helper.make_node("MatMul", ["x", "W"], ["t"]), helper.make_node("MatMul", ["t", "V"], ["y"])]
    ports = [helper.make_tensor_value_info(name, 1, [1, 128]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("external", [True, False])
def test_weights_that_lie_in_files_are_referred_to(tmp_path: Path, external: bool) -> None:
    model = Model.open(large(tmp_path / "m.onnx", external=external))
    made = ir.tensor(np.eye(128, dtype=np.float32), name="V")
    model.graph.initializers["V"].const_value = made
    with referred(model) as (content, folder):
        proto = onnx.load_from_string(content)
        places = {
            tensor.name: {entry.key: entry.value for entry in tensor.external_data}
            for tensor in proto.graph.initializer
        }
        arrays = {
            name: np.fromfile(folder / place["location"], np.float32, 128 * 128, offset=int(place["offset"]))
            for name, place in places.items()
        }
    if external:
        assert (folder / places["W"]["location"]).samefile(tmp_path / "weights.bin")
    for name in "WV":
        np.testing.assert_array_equal(arrays[name], model.graph.initializers[name].const_value.numpy().ravel())
    assert not (folder / places["V"]["location"]).exists()
    assert model.graph.initializers["V"].const_value is made


def test_a_session_of_referred_weights_gives_what_one_from_memory_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.open(large(tmp_path / "m.onnx", external=True))
    feeds = {"x": np.linspace(-1, 1, 128, dtype=np.float32)[None]}
    before = OnnxRuntime().session(model, host()).run(feeds)
    monkeypatch.setattr(build, "LARGE_BYTES", 0)
    session = OnnxRuntime().session(model, host())
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(session.run(feeds)["y"], before["y"])


def test_weights_whose_file_was_replaced_are_taken_from_what_was_read(tmp_path: Path) -> None:
    model = Model.open(large(tmp_path / "m.onnx", external=True))
    wanted = model.graph.initializers["W"].const_value.numpy().ravel()
    (tmp_path / "weights.bin").rename(tmp_path / "old.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(2 * 4 * 128 * 128))
    with referred(model) as (content, folder):
        (place,) = (t.external_data for t in onnx.load_from_string(content).graph.initializer if t.name == "W")
        entries = {entry.key: entry.value for entry in place}
        got = np.fromfile(folder / entries["location"], np.float32, 128 * 128, offset=int(entries["offset"]))
    np.testing.assert_array_equal(got, wanted)


def test_blame_falls_on_the_named_node() -> None:
    assert list(blame(chain(), BadInput("node 'sine' is odd."))) == ["sine"]


def test_blame_falls_on_all_nodes_of_an_unknown_operator() -> None:
    assert list(blame(chain(), UnsupportedOperator("no operator 'Mul'."))) == ["product"]


def test_blame_falls_on_the_model_when_nothing_is_named() -> None:
    assert list(blame(chain(), BadInput("something is odd."))) == ["model"]
