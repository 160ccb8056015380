"""Agreement of embeddings with people's judgement."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.minilm import POOLED_OUTPUT, calibration, lee_documents, metric, pearson, samples, tokenizer


def judged(angles: list[float], judgements: dict[tuple[int, int], float]) -> float:
    """The metric for documents that lie in a plane at these angles, judged as given."""
    gathered = metric()
    for document, angle in enumerate(angles):
        row = [judgements.get((min(document, k), max(document, k)), 1.0) for k in range(len(angles))]
        embedding = 3.0 * np.array([[np.cos(angle), np.sin(angle)]], dtype=np.float32)
        labels = {"document": np.array([document]), "similarity": np.array(row, dtype=np.float32)}
        gathered.update({POOLED_OUTPUT: embedding}, labels)
    return gathered.compute()


def test_correlation_is_one_where_judgements_are_the_cosines() -> None:
    angles = [0.0, 0.3, 1.2, 2.5]
    cosines = {(a, b): float(np.cos(angles[a] - angles[b])) for a in range(4) for b in range(a + 1, 4)}
    assert judged(angles, cosines) == pytest.approx(1.0)
    assert judged(angles, {pair: -value for pair, value in cosines.items()}) == pytest.approx(-1.0)


def test_judgements_of_documents_not_seen_do_not_matter() -> None:
    judgements = {(0, 1): 0.9, (0, 2): 0.5, (1, 2): 0.1}
    assert judged([0.0, 0.5, 2.0], judgements) == judged([0.0, 0.5, 2.0], {**judgements, (0, 7): 0.3})


def test_two_documents_have_no_correlation() -> None:
    assert judged([0.0, 0.5], {(0, 1): 0.5}) == 0.0


def test_pearson_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(size=40)
    assert pearson(a.tolist(), b.tolist()) == pytest.approx(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("flat", [[1.0, 1.0, 1.0], [1.0, float("nan"), 2.0]])
def test_what_does_not_vary_or_is_not_finite_correlates_with_nothing(flat: list[float]) -> None:
    assert pearson(flat, [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.zoo
def test_the_fifty_documents_have_symmetric_judgements() -> None:
    texts, similarity = lee_documents()
    assert len(texts) == 50
    assert similarity.shape == (50, 50)
    assert np.array_equal(similarity, similarity.T)
    assert np.array_equal(np.diag(similarity), np.ones(50))
    assert similarity.min() >= 0.0
    assert similarity.max() <= 1.0


@pytest.mark.zoo
def test_tokenizes_as_the_uncased_vocabulary_of_bert_does() -> None:
    assert tokenizer().encode("Hello, world!").tolist() == [101, 7592, 1010, 2088, 999, 102]
    assert tokenizer().encode("unaffable").tolist() == [101, 14477, 20961, 3468, 102]


@pytest.mark.zoo
def test_the_splits_share_no_document() -> None:
    first = {int(sample["document"][0]) for sample in calibration()}
    second = {int(sample["document"][0]) for sample in samples(50, 1, "test")}
    assert len(first) == len(second) == 25
    assert not first & second


@pytest.mark.zoo
def test_the_real_model_agrees_with_people() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("minilm-l3"), providers=["CPUExecutionProvider"])
    gathered = metric()
    for split in ("calibration", "test"):
        for sample in samples(50, 0, split):
            feeds = {name: sample[name] for name in ("input_ids", "attention_mask")}
            gathered.update({POOLED_OUTPUT: session.run([POOLED_OUTPUT], feeds)[0]}, sample)
    assert gathered.compute() == pytest.approx(0.633, abs=0.005)
