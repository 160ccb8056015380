from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lwc
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model

RNG = np.random.default_rng(0)
WEIGHTS = {f"w{k}": RNG.normal(size=(8, 8)).astype(np.float32) for k in range(4)}


def chain(**changed: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """x -> MatMul w0 -> MatMul w1 -> MatMul w2 -> MatMul w3 -> y, values h0 h1 h2 between them."""
    weights = {**WEIGHTS, **changed}
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        chain (float[N, 8] x) => (float[N, 8] y)
        <float[8, 8] w0, float[8, 8] w1, float[8, 8] w2, float[8, 8] w3>
        {
            [m0] h0 = MatMul(x, w0)
            [m1] h1 = MatMul(h0, w1)
            [m2] h2 = MatMul(h1, w2)
            [m3] y = MatMul(h2, w3)
        }
        """
    )
    del model.graph.initializer[:]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def noisy(name: str, share: float) -> np.ndarray[Any, Any]:
    weight = WEIGHTS[name]
    return (weight + share * np.abs(weight).mean() * RNG.normal(size=weight.shape)).astype(np.float32)


def test_a_model_agrees_with_itself() -> None:
    found = lwc.verify(chain(), chain())
    assert found.parted is None
    assert found.outputs["y"].max_abs == 0.0
    assert [layer.value for layer in found.layers] == ["h0", "h1", "h2", "y"]
    assert found.source == "synthetic"


@pytest.mark.parametrize("guilty", ["w0", "w1", "w2", "w3"])
def test_the_first_layer_that_parts_is_named(guilty: str) -> None:
    found = lwc.verify(chain(), chain(**{guilty: noisy(guilty, 1.0)}))
    assert found.parted is not None
    assert found.parted.node == f"m{guilty[1]}"


def test_noise_below_the_threshold_parts_nothing() -> None:
    changed = chain(w1=noisy("w1", 0.001))
    assert lwc.verify(chain(), changed).parted is None
    parted = lwc.verify(chain(), changed, threshold_db=100.0).parted
    assert parted is not None
    assert parted.node == "m1"


def test_the_numbers_are_those_of_the_definition() -> None:
    changed = noisy("w3", 0.1)
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    found = lwc.verify(chain(), chain(w3=changed), calib=[{"x": x}])
    before = x @ WEIGHTS["w0"] @ WEIGHTS["w1"] @ WEIGHTS["w2"]
    want, got = before @ WEIGHTS["w3"], before @ changed
    sqnr = 10 * np.log10(np.square(want).sum() / np.square(want - got).sum())
    assert found.outputs["y"].sqnr_db == pytest.approx(sqnr, abs=0.01)
    assert found.outputs["y"].max_abs == pytest.approx(np.abs(want - got).max(), rel=1e-3)
    assert (found.samples, found.source) == (1, "user")


def test_values_that_only_one_of_them_has_are_left_out() -> None:
    other = chain()
    for node in other.graph.node:
        node.input[:] = ["renamed" if name == "h1" else name for name in node.input]
        node.output[:] = ["renamed" if name == "h1" else name for name in node.output]
    assert [layer.value for layer in lwc.verify(chain(), other).layers] == ["h0", "h2", "y"]


def test_more_values_than_fit_at_once_are_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwc.compiler.verify.VALUES_AT_ONCE", 3)
    assert [layer.value for layer in lwc.verify(chain(), chain()).layers] == ["h0", "h1", "h2", "y"]


def test_a_fixed_shape_is_what_is_compared_on() -> None:
    model = Model.from_proto(chain())
    found = lwc.verify(model, model, shape={"x": (7, 8)}, samples=2)
    assert found.samples == 2


def test_files_can_be_compared(tmp_path: Path) -> None:
    for name in "ab":
        onnx.save(chain(), tmp_path / f"{name}.onnx")
    assert lwc.verify(tmp_path / "a.onnx", str(tmp_path / "b.onnx"), layers=False).layers == ()


def test_a_relu_that_became_part_of_a_quantization_is_no_difference() -> None:
    relu = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[N, 8] x) => (float[N, 8] y) '
        "{ [neg] h = Neg(x) [relu] r = Relu(h) [abs] y = Abs(r) }"
    )
    quantized = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 8] x) => (float[N, 8] y)
        <float scale = {0.02}, uint8 zero = {0}>
        {
            [neg] r = Neg(x)
            [q] i = QuantizeLinear(r, scale, zero)
            [d] f = DequantizeLinear(i, scale, zero)
            [abs] y = Abs(f)
        }
        """
    )
    found = {layer.value: layer.fidelity for layer in lwc.verify(relu, quantized).layers}
    assert set(found) == {"r", "y"}
    assert found["r"].sqnr_db > 30


@pytest.mark.parametrize(("part", "word"), [("input", "inputs"), ("output", "outputs")])
def test_models_of_other_signatures_are_refused(part: str, word: str) -> None:
    other = chain()
    old, new = {"input": ("x", "z"), "output": ("y", "z")}[part]
    for node in other.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    getattr(other.graph, part)[0].name = new
    with pytest.raises(BadInput, match=f"differ in their {word}"):
        lwc.verify(chain(), other)
