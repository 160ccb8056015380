"""The trained docstring decoder, its windows of text and its metric."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from lwc.compiler.core.errors import UsageError
from lwc.models import docstrings


def _session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(docstrings.path(), options, providers=["CPUExecutionProvider"])


def _score(samples: list[docstrings.Sample]) -> float:
    session, score = _session(), docstrings.metric()
    for sample in samples:
        score.update({"logits": session.run(None, {"tokens": sample["tokens"]})[0]}, sample)
    return score.compute()


def _characters(split: docstrings.Split) -> NDArray[np.int64]:
    return np.concatenate([sample["next"].ravel() for sample in docstrings.samples(split)])


def test_knows_modules_it_never_saw_far_better_than_counts_of_characters() -> None:
    counts = np.bincount(_characters("calibration"), minlength=docstrings.VOCABULARY) + 1.0
    unigram = float(np.log(counts / counts.sum())[_characters("test")].mean())
    found = _score(docstrings.held_out())
    # 2.02 bits per byte; unigrams need about 4.8
    assert found == pytest.approx(-1.4000, abs=0.001)
    assert found > unigram / 2


def test_finds_the_text_it_was_trained_on_a_little_easier() -> None:
    assert 0.0 < _score(docstrings.calibration()) - _score(docstrings.held_out()) < 0.3


def test_sees_no_later_token() -> None:
    tokens = docstrings.held_out()[0]["tokens"]
    changed = tokens.copy()
    changed[0, 64:] = ord("x")
    session = _session()
    first, second = (session.run(None, {"tokens": given})[0] for given in (tokens, changed))
    np.testing.assert_allclose(first[:, :64], second[:, :64], atol=1e-4)
    assert np.abs(first[:, 64:] - second[:, 64:]).max() > 1.0


def test_takes_a_batch_of_any_size() -> None:
    rows = [sample["tokens"] for sample in docstrings.held_out()[:3]]
    session = _session()
    together = session.run(None, {"tokens": np.concatenate(rows)})[0]
    apart = np.concatenate([session.run(None, {"tokens": row})[0] for row in rows])
    assert together.shape == (3, docstrings.CONTEXT, docstrings.VOCABULARY)
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-4)


def test_is_a_checked_model_of_a_million_weights_under_five_megabytes() -> None:
    assert docstrings.path().stat().st_size < 5_000_000
    model = onnx.load(docstrings.path())
    onnx.checker.check_model(model, full_check=True)
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in matrices]
    assert len(weights) == 4 * 5 + 1
    assert 950_000 < sum(math.prod(tensor.dims) for tensor in weights) < 1_050_000


@pytest.mark.parametrize("split", docstrings.SPLITS)
def test_a_sample_is_a_window_with_what_follows_each_token(split: docstrings.Split) -> None:
    samples = docstrings.samples(split)
    assert len(samples) == 256
    for sample in samples:
        assert sample["tokens"].shape == sample["next"].shape == (1, docstrings.CONTEXT)
        assert sample["tokens"].dtype == sample["next"].dtype == np.int64
        np.testing.assert_array_equal(sample["tokens"][:, 1:], sample["next"][:, :-1])
    assert 0 <= _characters(split).min() <= _characters(split).max() < docstrings.VOCABULARY


def test_the_parts_share_no_window_and_hold_english() -> None:
    parts = [[docstrings.text(sample["tokens"]) for sample in docstrings.samples(split)] for split in docstrings.SPLITS]
    assert not set(parts[0]) & set(parts[1])
    for part in parts:
        assert sum(" the " in text for text in part) > 64


def test_names_the_splits_when_asked_for_another() -> None:
    with pytest.raises(UsageError, match="calibration or test"):
        docstrings.samples("train")  # type: ignore[arg-type]


def test_the_metric_is_the_mean_log_likelihood_of_what_follows() -> None:
    following = np.array([[1, 0], [2, 2]])
    probability = np.array([[[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], [[0.3, 0.3, 0.4], [0.6, 0.3, 0.1]]])
    whole, parts = docstrings.metric(), docstrings.metric()
    logits = np.log(probability).astype(np.float32) + 100.0
    whole.update({"logits": logits}, {"next": following})
    for index in (0, 1):
        parts.update({"logits": logits[index : index + 1]}, {"next": following[index : index + 1]})
    want = np.log([0.5, 0.1, 0.4, 0.1]).mean()
    assert whole.compute() == pytest.approx(want, abs=1e-5)
    assert parts.compute() == pytest.approx(want, abs=1e-5)


def test_the_metric_of_a_broken_model_is_the_worst() -> None:
    broken = docstrings.metric()
    broken.update({"logits": np.full((1, 1, 2), np.nan)}, {"next": np.zeros((1, 1), dtype=np.int64)})
    assert broken.compute() == docstrings.metric().compute() == -math.inf
