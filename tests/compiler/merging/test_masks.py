"""Zeros that models share stay; zeros that they do not share are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc

Draw = Callable[..., Path]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def pruned(path: Path, masks: dict[str, np.ndarray]) -> Path:
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name in masks:
            array = np.where(masks[tensor.name], numpy_helper.to_array(tensor), 0)
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    onnx.save(proto, path)
    return path


def masks(seed: int, share: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"w": rng.random((30, 40)) < share, "v": rng.random((40, 20)) < share}


CASES: list[dict[str, Any]] = [
    {"method": "linear"}, {"method": "slerp"}, {"method": "task-arithmetic", "base": True},
    {"method": "ties", "base": True, "density": 0.5}, {"method": "dare", "base": True, "density": 0.5},
    {"method": "model-stock", "base": True}, {"method": "rebasin"},
    {"method": "pleas", "calib": ({"x": np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)},)},
    {"method": "regmean", "calib": ({"x": np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)},)},
]  # fmt: skip


@pytest.mark.parametrize("settings", CASES, ids=[case["method"] for case in CASES])
def test_a_shared_mask_stays_a_mask(settings: dict[str, Any], draw: Draw, tmp_path: Path) -> None:
    shared, base, out = masks(9), draw("base", 0), tmp_path / "out.onnx"
    models = [pruned(draw(name, seed), shared) for name, seed in (("a", 1), ("b", 2))]
    given = {**settings, "base": base} if "base" in settings else settings
    found = lwc.merge(models, out, **given)
    for name, mask in shared.items():
        merged = weights(out)[name]
        assert (merged[~mask] == 0).all()
        assert (merged[mask] != 0).mean() > 0.7
    assert "2 weights are sparse with one mask in all models, and keep it." in found.notes


def test_masks_that_differ_are_told(draw: Draw, tmp_path: Path) -> None:
    found = lwc.merge([pruned(draw("a", 1), masks(1)), pruned(draw("b", 2), masks(2))], tmp_path / "out.onnx")
    assert any(note.startswith("2 weights are sparse with other masks") and "'w'" in note for note in found.notes)
    assert (weights(tmp_path / "out.onnx")["w"] == 0).mean() < 0.3


def test_dense_models_have_no_masks(draw: Draw) -> None:
    assert not any("mask" in note for note in lwc.merge([draw("a", 1), draw("b", 2)]).notes)


def test_a_layer_that_a_recipe_keeps_is_not_masked(draw: Draw, tmp_path: Path) -> None:
    base, recipe, out = draw("base", 0), tmp_path / "r.toml", tmp_path / "out.onnx"
    recipe.write_text('method = "ties"\n[[layers]]\nmatch = "w"\nmethod = "keep"\n')
    models = [pruned(draw(name, seed), masks(9)) for name, seed in (("a", 1), ("b", 2))]
    lwc.merge(models, out, base=base, recipe=recipe)
    assert np.array_equal(weights(out)["w"], weights(base)["w"])
