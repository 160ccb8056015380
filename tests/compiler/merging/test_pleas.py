"""Layers of a merged model, solved toward what they give in the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc
from lwc.compiler.core.model import Model
from lwc.compiler.testing import run_onnxruntime

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 6, 5, 5] x) => (float[N, 4] y)
    { a = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(a) d = Conv <group = 8, pads = [1,1,1,1]> (r, k, c) s = Relu(d)
      p = GlobalAveragePool(s) f = Flatten(p) m = MatMul(f, v) y = Add(m, u) }"""
SHAPES = {"w": (8, 6, 3, 3), "b": (8,), "k": (8, 1, 3, 3), "c": (8,), "v": (8, 4), "u": (4,)}


def drawn(path: Path, seed: int, near: Path | None = None) -> Path:
    rng = np.random.default_rng(seed)
    proto = onnx.parser.parse_model(TEXT)
    base = {} if near is None else {t.name: numpy_helper.to_array(t) for t in onnx.load(near).graph.initializer}
    for name, shape in SHAPES.items():
        array = base.get(name, 0) * 1.0 + rng.standard_normal(shape) * (0.7 if base else 1.0)
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(proto, path)
    return path


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(run_onnxruntime(model.to_proto(), {"x": x})[0])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0)])
def test_the_mean_of_the_models_is_nearer_on_unseen_samples(weights: tuple[float, float], tmp_path: Path) -> None:
    first = drawn(tmp_path / "a.onnx", 0)
    paths = [first, drawn(tmp_path / "b.onnx", 1, near=first)]
    seen, unseen = np.random.default_rng(2).standard_normal((2, 128, 6, 5, 5)).astype(np.float32)
    calib: list[dict[str, Any]] = [{"x": x[None]} for x in seen]
    share = weights[0] / sum(weights)
    wanted = sum(
        part * outputs(Model.open(path), unseen) for part, path in zip((share, 1 - share), paths, strict=True)
    )
    errors = {}
    for method in ("rebasin", "pleas"):
        found = lwc.merge(paths, method=method, calib=[calib], weights=weights)
        errors[method] = float(np.mean((outputs(found.model, unseen) - wanted) ** 2))
    assert errors["pleas"] < 0.5 * errors["rebasin"]
    assert any("layers were solved" in note for note in found.notes)


def test_layers_that_a_recipe_keeps_are_not_solved(tmp_path: Path) -> None:
    first = drawn(tmp_path / "a.onnx", 0)
    paths = [first, drawn(tmp_path / "b.onnx", 1, near=first)]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('method = "pleas"\n[[layers]]\nmatch = "w"\nmethod = "keep"\n')
    x = np.random.default_rng(2).standard_normal((32, 6, 5, 5)).astype(np.float32)
    found = lwc.merge(paths, recipe=recipe, calib=[{"x": x}])
    kept = {t.name: numpy_helper.to_array(t) for t in onnx.load(first).graph.initializer}["w"]
    np.testing.assert_array_equal(found.model.graph.initializers["w"].const_value.numpy(), kept)


def test_without_samples_synthetic_ones_are_told(tmp_path: Path) -> None:
    first = drawn(tmp_path / "a.onnx", 0)
    found = lwc.merge([first, drawn(tmp_path / "b.onnx", 1, near=first)], method="pleas")
    assert any("synthetic" in note for note in found.notes)
