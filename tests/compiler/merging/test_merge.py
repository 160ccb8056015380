"""From files to a file: what is merged, what is refused, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc
from lwc.compiler.core.errors import BadInput, NotAModel, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Pipeline
from lwc.compiler.merging.align import PLAIN, DoesNotMatch
from lwc.compiler.testing import CONTEXT, DEEP_FP32, assert_equivalent, draw_feeds, run_onnxruntime
from lwc.models import digits

Draw = Callable[..., Path]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def changed(path: Path, out: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, out)
    return out


def test_the_average_of_two_is_between_them(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0), draw("b", 1), tmp_path / "out.onnx"
    found = lwc.merge([a, b], out, weights=[0.25, 0.75])
    for name, array in weights(out).items():
        np.testing.assert_allclose(array, 0.25 * weights(a)[name] + 0.75 * weights(b)[name], rtol=1e-5, atol=1e-6)
    assert [line.name for line in found.lines] == ["w", "b", "v"]
    assert found.out == str(out)


@pytest.mark.parametrize("method", ["linear", "slerp", "task-arithmetic", "ties", "dare", "dare-ties", "model-stock"])
@pytest.mark.parametrize("kind", digits.KINDS)
def test_a_model_merged_with_itself_is_itself(method: str, kind: digits.Kind, tmp_path: Path) -> None:
    path, out = digits.path(kind), tmp_path / "out.onnx"
    based = method not in ("linear", "slerp")
    thin = {"density": 0.3} if method in ("ties", "dare", "dare-ties") else {}
    lwc.merge([path, path], out, method=method, base=path if based else None, **thin)
    wanted = Model.open(path)
    Pipeline(PLAIN).run(wanted.ir, CONTEXT)
    assert Model.open(out).digest() == wanted.digest()


def test_a_base_with_one_model_gives_that_model(draw: Draw, tmp_path: Path) -> None:
    base, model, out = draw("base", 0), draw("model", 1), tmp_path / "out.onnx"
    lwc.merge([model], out, method="task-arithmetic", base=base)
    for name, array in weights(out).items():
        np.testing.assert_allclose(array, weights(model)[name], rtol=1e-5, atol=1e-6)


def test_random_draws_follow_the_seed(draw: Draw, tmp_path: Path) -> None:
    base, a, b = draw("base", 0), draw("a", 1), draw("b", 2)
    outs = [tmp_path / f"out{k}.onnx" for k in range(3)]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        lwc.merge([a, b], out, method="dare", base=base, density=0.5, seed=seed)
    first, again, other = (out.read_bytes() for out in outs)
    assert first == again
    assert first != other


def test_a_fold_of_batchnorm_in_one_model_is_undone(resnet: Draw, tmp_path: Path) -> None:
    plain, folded, out = resnet("plain", 0, fold=False), resnet("folded", 0, fold=True), tmp_path / "out.onnx"
    found = lwc.merge([plain, folded], out)
    assert any("fusions" in note for note in found.notes)
    assert_equivalent(Model.open(plain).ir, Model.open(out).ir, tolerance=DEEP_FP32)


def test_batch_statistics_are_averaged_whatever_the_method(resnet: Draw, tmp_path: Path) -> None:
    base, a, b = (resnet(name, seed, fold=False) for seed, name in enumerate(("base", "a", "b")))
    found = lwc.merge([a, b], tmp_path / "out.onnx", method="dare", base=base, density=0.1)
    merged = weights(tmp_path / "out.onnx")
    np.testing.assert_allclose(
        merged["bn1.running_var"], (weights(a)["bn1.running_var"] + weights(b)["bn1.running_var"]) / 2, rtol=1e-6
    )
    assert {line.method for line in found.lines if line.role == "statistic"} == {"average"}


def test_opsets_are_brought_to_the_newer(draw: Draw, tmp_path: Path) -> None:
    found = lwc.merge([draw("a", 0, opset=13), draw("b", 1, opset=18)], tmp_path / "out.onnx")
    assert found.model.opset == 18
    assert len(found.lines) == 3


def test_half_precision_stays_half(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0, dtype=np.float16), draw("b", 1, dtype=np.float16), tmp_path / "out.onnx"
    lwc.merge([a, b], out)
    exact = (weights(a)["w"].astype(np.float32) + weights(b)["w"]) / 2
    assert (weights(out)["w"] == exact.astype(np.float16)).all()


def test_what_one_model_shares_and_another_does_not_is_merged_apart(tmp_path: Path) -> None:
    def square(name: str, second: str, seed: int) -> Path:
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 20] x) => (float[N, 20] y) '
            f"{{ a = MatMul(x, p) y = MatMul(a, {second}) }}"
        )
        rng = np.random.default_rng(seed)
        for weight in dict.fromkeys(["p", second]):
            array = rng.standard_normal((20, 20)).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(array, weight))
        onnx.save(proto, tmp_path / name)
        return tmp_path / name

    tied, free, out = square("tied", "p", 0), square("free", "q", 1), tmp_path / "out.onnx"
    lwc.merge([tied, free], out)
    a, b = weights(tied), weights(free)
    feeds = {"x": np.eye(20, dtype=np.float32)}
    (found,) = run_onnxruntime(onnx.load(out), feeds)
    np.testing.assert_allclose(found, (a["p"] + b["p"]) / 2 @ ((a["p"] + b["q"]) / 2), rtol=1e-4, atol=1e-4)
    assert lwc.merge([tied, tied]).model.parameters() == 400


def test_other_shapes_are_refused_and_named(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0), draw("b", 1, v=(40, 7)), tmp_path / "out.onnx"
    with pytest.raises(DoesNotMatch, match=r"'v' \[40, 20\] of 'a' has no counterpart in 'b'.*\[40, 7\]") as error:
        lwc.merge([a, b], out)
    assert [one.tensor.shape for one in error.value.missing] == [(40, 20), (40, 7)]
    assert not out.exists()


def test_partial_keeps_what_has_no_counterpart(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0), draw("b", 1, v=(40, 7)), tmp_path / "out.onnx"
    found = lwc.merge([a, b], out, partial=True)
    np.testing.assert_array_equal(weights(out)["v"], weights(a)["v"])
    np.testing.assert_allclose(weights(out)["w"], (weights(a)["w"] + weights(b)["w"]) / 2, rtol=1e-5, atol=1e-6)
    assert [line.name for line in found.lines] == ["w", "b"]


def test_another_architecture_is_refused(draw: Draw) -> None:
    with pytest.raises(DoesNotMatch):
        lwc.merge([draw("a", 0), digits.path("cnn")])


def test_quantized_models_are_refused_by_name(draw: Draw, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)
        <int8[2] q = {1, 2}, float s = {0.5}> { w = DequantizeLinear(q, s) y = Mul(x, w) }"""
    )
    onnx.save(proto, tmp_path / "int8.onnx")
    with pytest.raises(BadInput, match=r"tensor 'q' \(INT8\)"):
        lwc.merge([tmp_path / "int8.onnx", tmp_path / "int8.onnx"])


@pytest.mark.parametrize("name", ["w", "b"])
def test_infinities_are_refused_by_name(name: str, draw: Draw, tmp_path: Path) -> None:
    def spoil(proto: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[3] = np.inf
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    bad, out = changed(draw("b", 1), tmp_path / "bad.onnx", spoil), tmp_path / "out.onnx"
    with pytest.raises(BadInput, match=f"Merging '{name}' gives NaN or infinities"):
        lwc.merge([draw("a", 0), bad], out)
    assert not out.exists()


def test_constants_that_are_infinite_in_all_stay(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { a = Add(x, w) y = Max(a, m) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.full(2, -np.inf, np.float32), "m"))
    for k in range(2):
        del proto.graph.initializer[1:]
        proto.graph.initializer.append(numpy_helper.from_array(np.full(2, k, np.float32), "w"))
        onnx.save(proto, tmp_path / f"{k}.onnx")
    lwc.merge([tmp_path / "1.onnx"], tmp_path / "out.onnx", method="ties", base=tmp_path / "0.onnx")
    assert weights(tmp_path / "out.onnx")["m"].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x3a\xff\xff\x03"])
def test_broken_files_are_refused(content: bytes, draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(NotAModel, match=r"broken\.onnx"):
        lwc.merge([draw("a", 0), tmp_path / "broken.onnx"])


def test_an_interrupt_leaves_the_old_file_and_nothing_else(draw: Draw, tmp_path: Path) -> None:
    class Impatient:
        def stage(self, name: str, total: int | None = None) -> None: ...
        def note(self, text: str) -> None: ...
        def advance(self, n: int = 1) -> None:
            if (tmp_path / "writing").exists():
                raise KeyboardInterrupt

    a, b, out = draw("a", 0), draw("b", 1), tmp_path / "out.onnx"
    out.write_bytes(b"old")
    found = lwc.merge([a, b], progress=Impatient())
    (tmp_path / "writing").touch()
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        found.model.save(out)
    from lwc.compiler.merging.stream import write_merged

    with pytest.raises(KeyboardInterrupt):
        write_merged(found.model, out, external=False)
    assert out.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == before


def test_a_model_can_be_replaced_by_the_merge(draw: Draw) -> None:
    a, b = draw("a", 0, w=(30, 2000), b=(2000,), v=(2000, 20)), draw("b", 1, w=(30, 2000), b=(2000,), v=(2000, 20))
    wanted = (weights(a)["w"] + weights(b)["w"]) / 2
    lwc.merge([a, b], a)
    np.testing.assert_allclose(weights(a)["w"], wanted, rtol=1e-5, atol=1e-6)


def test_external_data_stay_external(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0), draw("b", 1), tmp_path / "out.onnx"
    Model.open(a).save(a, external_data=True)
    lwc.merge([a, b], out)
    assert (tmp_path / "out.onnx.data").exists()
    np.testing.assert_allclose(weights(out)["v"], (weights(a)["v"] + weights(b)["v"]) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "settings", "message"), [
    (1, {}, "'linear' takes at least 2 models, not 1"),
    (3, {"method": "slerp"}, "'slerp' takes 2 models, not 3"),
    (2, {"method": "ties"}, "since a common base"),
    (2, {"method": "linear", "base": 0}, "'linear' knows no base"),
    (2, {"method": "magic"}, "Unknown merge method 'magic'"),
    (2, {"weights": [1.0]}, "1 weights for 2 models"),
    (2, {"weights": [1.0, -1.0]}, "sum of the weights, which is zero"),
    (2, {"method": "ties", "base": 0, "density": [0.1, 0.2, 0.3]}, "3 densities for 2 models"),
    (2, {"method": "dare", "base": 0, "density": 1.5}, "'density' must be finite between 0 and 1"),
    (2, {"method": "dare", "base": 0, "rescale": "l7"}, "Unknown rescale 'l7'"),
    (2, {"depth": 3}, "no setting 'depth'"),
    (2, {"density": 0.5}, "'linear' has no density"),
    (2, {"method": "model-stock", "base": 0, "scale": 2.0}, "'model-stock' has no scale"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(draw: Draw, count: int, settings: dict[str, Any], message: str) -> None:
    paths = [draw(f"m{k}", k) for k in range(count)]
    if "base" in settings:
        settings = {**settings, "base": paths[0]}
    with pytest.raises(UsageError, match=message):
        lwc.merge(paths, **settings)


def test_the_merged_model_runs(tmp_path: Path) -> None:
    lwc.merge([digits.path("cnn"), digits.path("cnn")], tmp_path / "out.onnx", method="slerp")
    model = Model.open(tmp_path / "out.onnx")
    assert_equivalent(Model.open(digits.path("cnn")).ir, model.ir, draw_feeds(model.ir))
