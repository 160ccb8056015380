"""Between old and new: what is swept, what is taken, what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lwc
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.merging.bcwi import ACCURACY, FLIPS, sweep
from lwc.compiler.merging.curve import sparkline
from lwc.compiler.testing import run_onnxruntime

Draw = Callable[..., Path]


def answers(path: Path, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(5).standard_normal((count, 30)).astype(np.float32)
    (y,) = run_onnxruntime(Model.open(path).to_proto(), {"x": x})
    return x, np.argmax(y, axis=1)


def labelled(path: Path) -> list[dict[str, Any]]:
    """Samples that this model has right."""
    return [{"x": x[None], "label": label} for x, label in zip(*answers(path), strict=True)]


SHARES = (0.0, 0.5, 1.0)


@pytest.mark.parametrize(("scores", "chosen"), [
    ([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0]], 1),  # the best of those that halve the flips
    ([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], 2),  # what is worse than the new one is not taken, nor the old one
    ([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], 2),  # of equals the new one
    ([[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 1]], 1),
    ([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]], 2),  # nothing keeps the new one's accuracy but itself
])  # fmt: skip
def test_what_is_taken(scores: list[list[int]], chosen: int) -> None:
    found = sweep(SHARES, np.array(scores, float))
    assert found.chosen == chosen
    assert found.lines[ACCURACY] == tuple(np.mean(scores, axis=1))


def test_a_flip_is_what_was_right_and_turns_wrong() -> None:
    found = sweep(SHARES, np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], float))
    assert found.lines[FLIPS] == (0.0, 0.25, 0.5)


def test_the_old_model_is_kept_where_it_is_right(draw: Draw, tmp_path: Path) -> None:
    old, new, out = draw("old", 0), draw("new", 1), tmp_path / "out.onnx"
    found = lwc.merge([old, new], out, method="bcwi", calib=[labelled(old)])
    (curve,) = found.curves
    assert (curve.x[0], curve.x[-1], len(curve.x)) == (0.0, 1.0, 21)
    assert curve.lines[ACCURACY][0] == 1.0
    assert curve.x[curve.chosen] < 0.5
    assert any("negative flips instead of" in note for note in found.notes)


def test_the_new_model_is_kept_where_it_alone_is_right(draw: Draw) -> None:
    old, new = draw("old", 0), draw("new", 1)
    found = lwc.merge([old, new], method="bcwi", calib=[labelled(new)])
    (curve,) = found.curves
    assert curve.lines[ACCURACY][curve.chosen] == 1.0
    merged = found.model.graph.initializers["w"].const_value.numpy()
    shares = curve.x[curve.chosen]
    first, second = (Model.open(path).graph.initializers["w"].const_value.numpy() for path in (old, new))
    np.testing.assert_allclose(merged, (1 - shares) * first + shares * second, rtol=1e-5, atol=1e-6)


def test_without_labels_both_models_say_what_is_right(draw: Draw) -> None:
    samples = [{"x": sample["x"]} for sample in labelled(draw("old", 0))]
    found = lwc.merge([draw("old", 0), draw("new", 1)], method="bcwi", calib=[samples])
    assert "The samples have no labels: right is what the mean of both models says." in found.notes


def test_weights_and_metrics_of_whole_sets_are_refused(draw: Draw) -> None:
    class Whole:
        def update(self, outputs: object, sample: object) -> None: ...
        def compute(self) -> float:
            return 0.0

    models, samples = [draw("old", 0), draw("new", 1)], labelled(draw("old", 0))
    with pytest.raises(UsageError, match="finds the weights"):
        lwc.merge(models, method="bcwi", calib=[samples], weights=[1, 1])
    with pytest.raises(UsageError, match="is of whole sets"):
        lwc.merge(models, method="bcwi", calib=[samples], metric=Whole)


def test_a_line_of_text() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([2.0, 2.0]) == "▁▁"
