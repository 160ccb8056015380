"""Windows of speech in noise, and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.silero_vad import metric, roc_auc, samples


def area(scores: list[float], labels: list[int]) -> float:
    return roc_auc(np.array(scores), np.array(labels))


def test_the_area_is_one_where_all_speech_scores_above_all_else() -> None:
    assert area([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 1.0
    assert area([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]) == 0.0


def test_ties_count_half() -> None:
    assert area([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
    assert area([0.5, 0.5, 0.9], [0, 1, 1]) == 0.75


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 60).astype(np.float64), rng.integers(0, 2, 60)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels == 1] for b in scores[labels == 0]]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(pairs))


def test_one_kind_alone_tells_nothing() -> None:
    assert area([0.1, 0.9], [1, 1]) == 0.5
    assert area([], []) == 0.5


def test_a_score_that_is_no_number_ranks_lowest() -> None:
    assert area([float("nan"), 0.1], [1, 0]) == 0.0
    assert area([float("nan"), 0.1], [0, 1]) == 1.0


def test_the_metric_gathers_windows_one_by_one() -> None:
    gathered = metric()
    for score, label in ((0.9, 1), (0.2, 0), (0.1, 1)):
        gathered.update({"output": np.array([[score]], dtype=np.float32)}, {"label": np.array([label])})
    assert gathered.compute() == 0.5


@pytest.mark.zoo
def test_samples_are_windows_of_both_kinds_with_a_state_that_moves() -> None:
    pytest.importorskip("onnxruntime")
    shown = list(samples(40, 1, "test"))
    assert len(shown) == 40
    assert shown[0]["input"].shape == (1, 576)
    assert shown[0]["state"].shape == (2, 1, 128)
    assert shown[0]["sr"].shape == ()
    assert {int(sample["label"][0]) for sample in shown} == {0, 1}
    assert not np.array_equal(shown[0]["state"], shown[1]["state"])


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["silero-vad", "silero-vad-ifless"])
def test_the_real_model_hears_speech(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path(name), providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    gathered = metric()
    for sample in samples(320, 0, "test"):
        gathered.update({"output": session.run(["output"], {key: sample[key] for key in inputs})[0]}, sample)
    assert 0.96 < gathered.compute() < 0.9999
