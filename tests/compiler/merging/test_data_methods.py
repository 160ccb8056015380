"""Methods that look at data, from files to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc
from lwc.compiler.core.errors import BadCalibration, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.data import Calibration
from lwc.compiler.merging.evidence import open_session, score
from lwc.compiler.metrics import Metric

Draw = Callable[..., Path]
METHODS = ("soup", "fisher", "regmean", "opcm", "adamerging")


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def inputs(seed: int, count: int = 80, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((30, 30)) * scale
    labels = rng.integers(0, 20, (count, 1))
    return [
        {"x": (rng.standard_normal((1, 30)) @ mix).astype(np.float32), "label": label} for label in labels
    ]


def answers(model: Model | Path, samples: list[dict[str, np.ndarray]], out: str = "y") -> np.ndarray:
    session = open_session(model if isinstance(model, Model) else Model.open(model))
    return np.concatenate([session.run({"x": sample["x"]})[out] for sample in samples])


def named_logits(path: Path) -> Path:
    """The output's name says that it is scores over classes."""
    proto = onnx.load(path)
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "logits"
    onnx.save(proto, path)
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Draw:
    """linear(name, seed): y = x w + b, written to name.onnx."""

    def write(name: str, seed: int) -> Path:
        rng = np.random.default_rng(seed)
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 30] x) => (float[N, 20] y) '
            "{ a = MatMul(x, w) y = Add(a, b) }"
        )
        for weight, shape in {"w": (30, 20), "b": (20,)}.items():
            array = rng.standard_normal(shape).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(array, weight))
        onnx.save(proto, tmp_path / f"{name}.onnx")
        return tmp_path / f"{name}.onnx"

    return write


@pytest.mark.parametrize("method", METHODS)
def test_a_model_merged_with_itself_is_itself(method: str, draw: Draw) -> None:
    path = named_logits(draw("a", 0))
    base = path if method in ("opcm", "adamerging") else None
    found = lwc.merge([path, path], method=method, base=base, calib=[inputs(0)])
    assert found.model.digest() == lwc.merge([path, path], method="linear").model.digest()


def test_regmean_is_least_squares_on_the_samples_of_each_model(linear: Draw, tmp_path: Path) -> None:
    a, b, out = linear("a", 0), linear("b", 1), tmp_path / "out.onnx"
    calib = [inputs(2), inputs(3)]
    lwc.merge([a, b], out, method="regmean", calib=calib, shrink=1.0)
    stacked = np.concatenate([sample["x"] for samples in calib for sample in samples])
    pairs = zip(calib, (a, b), strict=True)
    wanted = np.concatenate([sample["x"] @ weights(path)["w"] for samples, path in pairs for sample in samples])
    np.testing.assert_allclose(
        weights(out)["w"], np.linalg.lstsq(stacked, wanted, rcond=None)[0], rtol=1e-2, atol=1e-2
    )
    np.testing.assert_allclose(weights(out)["b"], (weights(a)["b"] + weights(b)["b"]) / 2, rtol=1e-6)


def test_in_order_is_nearer_to_both_models_than_at_once_than_their_average(draw: Draw) -> None:
    a, b = draw("a", 0), draw("b", 1)
    calib, unseen = [inputs(2, 300), inputs(3, 300)], [inputs(2, 400)[300:], inputs(3, 400)[300:]]

    def error(model: Model) -> float:
        pairs = zip((a, b), unseen, strict=True)
        return sum(float(np.square(answers(model, seen) - answers(path, seen)).mean()) for path, seen in pairs)

    average = error(lwc.merge([a, b]).model)
    once = error(lwc.merge([a, b], method="regmean", calib=calib).model)
    order = error(lwc.merge([a, b], method="regmean", calib=calib, in_order=True).model)
    assert order < once < average


def test_fisher_leans_to_the_model_that_uses_an_input(draw: Draw, tmp_path: Path) -> None:
    a, b, out = draw("a", 0), draw("b", 1), tmp_path / "out.onnx"
    only_a, only_b = inputs(2), inputs(3)
    for sample in only_b:
        sample["x"][:, 4] = 0.0
    found = lwc.merge([a, b], out, method="fisher", calib=[only_a, only_b])
    np.testing.assert_allclose(weights(out)["w"][4], weights(a)["w"][4], rtol=1e-3, atol=1e-3)
    assert np.abs(weights(out)["w"][5] - weights(a)["w"][5]).max() > 0.1
    assert any("no gradient" in note for note in found.notes)


@pytest.mark.parametrize("learned", [False, True])
def test_a_soup_scores_no_less_than_the_best_model(draw: Draw, learned: bool) -> None:
    paths = [draw(name, seed) for seed, name in enumerate("abc")]
    samples = inputs(5)
    for sample in samples:  # what 'b' says, mostly: the others only harm
        sample["label"] = answers(paths[1], [sample]).argmax(-1)
    found = lwc.merge(paths, method="soup", calib=[samples], learned=learned)
    alone = [float(np.mean(answers(path, samples).argmax(-1) == [s["label"][0] for s in samples])) for path in paths]
    merged = float(np.mean(answers(found.model, samples).argmax(-1) == [s["label"][0] for s in samples]))
    assert merged >= max(alone) == 1.0
    assert any("soup is 1 'b'" in note for note in found.notes)


def test_learned_weights_find_what_equal_ones_cannot(linear: Draw) -> None:
    a, b = linear("a", 0), linear("b", 1)
    samples = inputs(5, scale=0.2)
    wanted = {id(s): 0.75 * answers(a, [s]) + 0.25 * answers(b, [s]) for s in samples}
    for sample in samples:
        sample["wanted"] = wanted[id(sample)]

    def near(outputs: dict[str, np.ndarray], sample: dict[str, np.ndarray]) -> float:
        return -float(np.square(outputs["y"] - sample["wanted"]).mean())

    found = lwc.merge([a, b], method="soup", calib=[samples], metric=near, learned=True)
    np.testing.assert_allclose(answers(found.model, samples[:5]), [wanted[id(s)][0] for s in samples[:5]], atol=1e-4)


def test_adamerging_lowers_the_entropy_it_reports(draw: Draw) -> None:
    base, a, b = (named_logits(draw(name, seed)) for seed, name in enumerate(("base", "a", "b")))
    samples = inputs(1, scale=0.05)
    found = lwc.merge([a, b], base=base, method="adamerging", calib=[samples])

    def entropy(model: Model) -> float:
        logits = answers(model, samples, "logits").astype(np.float64)
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        return float(-(chances * np.log(chances)).sum(-1).mean())

    start = lwc.merge([a, b], base=base, method="task-arithmetic", scale=0.3).model
    assert entropy(found.model) < 0.9 * entropy(start)
    assert any(f"from {entropy(start):.3f}" in note for note in found.notes)


def test_opcm_is_as_long_as_a_task_vector_in_the_mean(draw: Draw, tmp_path: Path) -> None:
    base, a, b, out = draw("base", 0), draw("a", 1), draw("b", 2), tmp_path / "out.onnx"
    lwc.merge([a, b], out, method="opcm", base=base)

    def length(path: Path) -> float:
        changes = [weights(path)[name].astype(np.float64) - array for name, array in weights(base).items()]
        return float(np.sqrt(sum(float(np.square(change).sum()) for change in changes)))

    assert length(out) == pytest.approx((length(a) + length(b)) / 2, rel=1e-5)


def test_batch_statistics_are_those_of_the_merged_model(resnet: Draw, tmp_path: Path) -> None:
    a, b, out = resnet("a", 0, fold=False), resnet("b", 1, fold=False), tmp_path / "out.onnx"
    rng = np.random.default_rng(0)
    port = open_session(Model.open(a)).inputs[0]
    images = [{port.name: rng.standard_normal((1, 3, 32, 32)).astype(np.float32)} for _ in range(4)]
    found = lwc.merge([a, b], out, calib=[images])
    assert any("estimated anew" in note for note in found.notes)
    model = Model.open(out)
    for node in [node for node in model.graph if node.op_type == "BatchNormalization"][::7]:
        name = node.inputs[0].name
        session = open_session(model, (name,))
        seen = np.concatenate([session.run(image)[name] for image in images])
        np.testing.assert_allclose(node.inputs[3].const_value.numpy(), seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(node.inputs[4].const_value.numpy(), seen.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_inputs_of_other_names_are_fed_by_their_order(linear: Draw, tmp_path: Path) -> None:
    a, b = linear("a", 0), linear("b", 1)
    proto = onnx.load(b)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "pixels"
    onnx.save(proto, b)
    own = [{"pixels": sample["x"]} for sample in inputs(3)]
    apart = lwc.merge([a, b], method="regmean", calib=[inputs(2), own]).model
    together = lwc.merge([a, linear("c", 1)], method="regmean", calib=[inputs(2), inputs(3)]).model
    np.testing.assert_allclose(answers(apart, inputs(4)), answers(together, inputs(4)), rtol=1e-5)


def test_without_samples_synthetic_ones_are_looked_at_and_named(draw: Draw) -> None:
    found = lwc.merge([draw("a", 0), draw("b", 1)], method="regmean")
    assert any("synthetic" in note for note in found.notes)


def test_wrong_uses_are_refused_in_a_sentence(draw: Draw) -> None:
    a, b = draw("a", 0), draw("b", 1)
    bare = [{"x": sample["x"]} for sample in inputs(0)]
    with pytest.raises(UsageError, match=r"3 --calib for 2 models\."):
        lwc.merge([a, b], method="regmean", calib=[bare, bare, bare])
    with pytest.raises(UsageError, match="needs to know what is better"):
        lwc.merge([a, b], method="soup", calib=[bare])
    with pytest.raises(UsageError, match="compares with an original"):
        lwc.merge([a, b], method="soup", calib=[bare], metric="fidelity")
    with pytest.raises(UsageError, match=r"no output of .* is scores over classes"):
        lwc.merge([a, b], method="adamerging", base=a, calib=[bare])
    with pytest.raises(UsageError, match="'fisher' has no shrink"):
        lwc.merge([a, b], method="fisher", calib=[bare], shrink=0.5)
    with pytest.raises(UsageError, match="'shrink' must be finite between 0 and 1"):
        lwc.merge([a, b], method="regmean", calib=[bare], shrink=1.5)
    with pytest.raises(UsageError, match="takes no negative weights"):
        lwc.merge([a, b], method="regmean", calib=[bare], weights=[-1.0, 2.0])
    with pytest.raises(BadCalibration, match="no array for input 'x'"):
        lwc.merge([a, b], method="regmean", calib=[[{"z": np.zeros((1, 30), np.float32)}]])


def test_a_streaming_metric_sees_every_sample(linear: Draw) -> None:
    class Count:
        def __init__(self) -> None:
            self.seen = 0

        def update(self, outputs: dict[str, np.ndarray], sample: dict[str, np.ndarray]) -> None:
            self.seen += outputs["y"].shape == (1, 20)

        def compute(self) -> float:
            return float(self.seen)

    model = Model.open(linear("a", 0))
    samples = Calibration.open(inputs(0, 9), open_session(model).inputs)
    assert score(model, samples, Metric("count", streaming=Count)) == 9.0
