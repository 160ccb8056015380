"""Models whose channels stand elsewhere are merged as what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import lwc
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Silent
from lwc.compiler.merging.align import align
from lwc.compiler.merging.frame import framed
from lwc.compiler.testing import DEEP_FP32, assert_equivalent, draw_feeds
from lwc.models import digits


def shuffled(path: Path, seed: int) -> Model:
    """The same function, its channels in another order, under other names of tensors."""
    model = Model.open(path)
    frame = framed(align([model, model], Silent()), Silent())
    rng = np.random.default_rng(seed)
    other = frame.fitted(1, {group: rng.permutation(size) for group, size in frame.sizes.items()})
    return Model(other.ir, "shuffled")


def samples(count: int = 8) -> list[dict[str, Any]]:
    images, labels = digits.arrays("calibration")
    return [{"x": images[k : k + 1], "label": labels[k]} for k in range(count)]


@pytest.mark.parametrize("method", ["rebasin", "pleas"])
@pytest.mark.parametrize("calib", [(), (samples(),)], ids=["weights", "activations"])
@pytest.mark.parametrize("kind", ["cnn", "gru", "transformer"])
def test_a_model_and_itself_shuffled_merge_into_it(kind: digits.Kind, calib: Sequence[Any], method: str) -> None:
    if method == "pleas" and (not calib or kind != "gru"):
        pytest.skip("the same layers, solved for nothing")
    path = digits.path(kind)
    found = lwc.merge([Model.open(path), shuffled(path, 1)], method=method, calib=calib)
    assert_equivalent(Model.open(path).ir, found.model.ir, draw_feeds(found.model.ir), DEEP_FP32)
    assert any("changed places" in note for note in found.notes)


def test_plain_averaging_of_the_same_is_another_model() -> None:
    path = digits.path("cnn")
    found = lwc.merge([Model.open(path), shuffled(path, 1)], method="linear")
    with pytest.raises(AssertionError):
        assert_equivalent(Model.open(path).ir, found.model.ir, draw_feeds(found.model.ir), DEEP_FP32)


def test_weights_of_models_count(tmp_path: Path) -> None:
    path = digits.path("gru")
    found = lwc.merge([Model.open(path), shuffled(path, 1)], tmp_path / "out.onnx", method="rebasin", weights=[3, -1])
    assert_equivalent(Model.open(path).ir, Model.open(tmp_path / "out.onnx").ir, draw_feeds(found.model.ir), DEEP_FP32)


def test_three_models_are_put_in_the_order_of_the_first() -> None:
    path = digits.path("gru")
    models = [Model.open(path), shuffled(path, 1), shuffled(path, 2)]
    found = lwc.merge([models[0], models[1], Model(models[2].ir, "third")], method="rebasin")
    assert_equivalent(models[0].ir, found.model.ir, draw_feeds(found.model.ir), DEEP_FP32)


def test_what_stays_is_listed() -> None:
    path = digits.path("cnn")
    notes = lwc.merge([path, path], method="rebasin").notes
    assert any("'10.weight' axis 0: the caller reads it" in note for note in notes)


def test_a_shared_mask_is_not_moved() -> None:
    first, second = (Model.open(digits.path("cnn")) for _ in range(2))
    rng = np.random.default_rng(0)
    for name, value in first.graph.initializers.items():
        array = value.const_value.numpy()
        if array.ndim == 4:
            mask = rng.random(array.shape) < 0.5
            for model, factor in ((first, 1.0), (second, rng.standard_normal(array.shape))):
                kept = (array * factor * mask).astype(np.float32)
                model.graph.initializers[name].const_value = ir.tensor(kept, name=name)
    found = lwc.merge([first, Model(second.ir, "second")], method="rebasin")
    for name, value in first.graph.initializers.items():
        array = value.const_value.numpy()
        if array.ndim == 4:
            merged = found.model.graph.initializers[name].const_value.numpy()
            assert ((merged == 0) == (array == 0)).all()
    assert any("channels stay where a mask is shared" in note for note in found.notes)
