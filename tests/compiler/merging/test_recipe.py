"""Recipes: settings for all, others by layer, and mistakes that are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc
from lwc.compiler.core.errors import UsageError
from lwc.compiler.merging.recipe import make_recipe

Draw = Callable[..., Path]


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_flags_win_over_the_file_and_the_base_is_beside_it(tmp_path: Path) -> None:
    text = 'method = "ties"\nbase = "base.onnx"\ndensity = 0.2\nweights = [1, 2]\nseed = 7'
    found = make_recipe({"density": (0.5,), "scale": None}, recipe(tmp_path, text))
    assert (found.settings.method, found.settings.density, found.settings.weights) == ("ties", (0.5,), (1, 2))
    assert (found.base, found.seed) == (tmp_path / "base.onnx", 7)


def test_the_last_layer_that_fits_counts(tmp_path: Path) -> None:
    text = '[[layers]]\nmatch = "*.weight"\nweights = [1, 3]\n[[layers]]\nmatch = ["head.*"]\nmethod = "keep"'
    found = make_recipe({}, recipe(tmp_path, text))
    assert found.of("body.weight").weights == (1, 3)
    assert found.of("head.weight").method == "keep"
    assert found.of("body.bias") == found.settings


def test_layers_are_merged_as_the_recipe_says(draw: Draw, tmp_path: Path) -> None:
    text = 'weights = [1, 1]\n[[layers]]\nmatch = "v"\nweights = [0, 1]\n[[layers]]\nmatch = "b"\nmethod = "keep"'
    a, b, out = draw("a", 0), draw("b", 1), tmp_path / "out.onnx"
    found = lwc.merge([a, b], out, recipe=recipe(tmp_path, text))
    merged = weights(out)
    np.testing.assert_allclose(merged["w"], (weights(a)["w"] + weights(b)["w"]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(merged["v"], weights(b)["v"])
    np.testing.assert_array_equal(merged["b"], weights(a)["b"])
    assert {line.name: line.method for line in found.lines} == {"w": "linear", "b": "keep", "v": "linear"}


def test_a_pattern_that_fits_nothing_is_refused(draw: Draw, tmp_path: Path) -> None:
    file = recipe(tmp_path, '[[layers]]\nmatch = "haed.*"\nmethod = "keep"')
    with pytest.raises(UsageError, match=r"'haed\.\*' fits no parameter"):
        lwc.merge([draw("a", 0), draw("b", 1)], recipe=file)


@pytest.mark.parametrize(("text", "message"), [
    ("method = 3", "'method' must be a name"),
    ("weights = 'all'", "'weights' must be a number"),
    ("partial = 1", "'partial' must be true or false"),
    ("seed = 1.5", "'seed' must be a whole number"),
    ("colour = 1", "no setting 'colour'"),
    ("layers = 3", r"\[\[layers\]\]"),
    ("[[layers]]\nmethod = 'keep'", "needs match"),
    ("[[layers]]\nmatch = 3", "must be a pattern"),
    ("[[layers]]\nmatch = 'a'\nseed = 3", "no setting 'seed'"),
    ("[[layers]]\nmatch = 'a'\nscale = inf", "'scale' must be finite"),
    ("weights = [", "cannot be read"),
])  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_recipe({}, recipe(tmp_path, text))


def test_a_layer_with_a_method_that_needs_a_base_is_refused_without_one(draw: Draw, tmp_path: Path) -> None:
    file = recipe(tmp_path, '[[layers]]\nmatch = "v"\nmethod = "ties"')
    with pytest.raises(UsageError, match="common base"):
        lwc.merge([draw("a", 0), draw("b", 1)], recipe=file)
