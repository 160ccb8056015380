"""Does a sentence find the story it comes from? MiniLM embeddings on Lee's 300 background documents, MRR.

A sample is a sentence from the first half of a news story, {"input_ids": [1, tokens] int64, "attention_mask":
[1, tokens] int64}, with the label {"target": [384] float32}: the float model's embedding of the story's second half.
So a compiled model is asked to search in an index that the original one has made. Half of the stories are for
calibration, half for test. More samples than Lee's 50 judged documents (lwc.models.tasks.minilm) mean less noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import MissingDependency
from lwc.models import zoo
from lwc.models.packages import fetch
from lwc.models.tasks.minilm import GENSIM, POOLED_OUTPUT, model_inputs, pooled
from lwc.models.tasks.splits import half_of

_CALIBRATION_COUNT = 512
_FEWEST_SENTENCES = 4
_FEWEST_WORDS = 6
_SENTENCE_END = re.compile(r"(?<=[.!?\"]) +(?=[A-Z\"])")


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """At most count sentences of the stories of one split (some 600), in an order by seed."""
    stories = halved_stories()
    items = [(story, sentence) for story in half_of(len(stories), split) for sentence in stories[story][0]]
    for position in np.random.default_rng(seed).permutation(len(items))[:count]:
        story, sentence = items[position]
        yield {**model_inputs(sentence), "target": _float_embedding(stories[story][1])}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.minilm_stories:calibration."""
    return samples(_CALIBRATION_COUNT)


class metric:
    """Mean reciprocal rank, by cosine, of each sentence's story among all stories seen."""

    def __init__(self) -> None:
        self._queries: list[NDArray[np.float64]] = []
        self._targets: list[NDArray[Any]] = []

    def update(self, outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> None:
        self._queries.append(pooled(outputs))
        self._targets.append(sample["target"])

    def compute(self) -> float:
        return reciprocal_rank(np.array(self._queries), np.array(self._targets)) if self._queries else 0.0


def reciprocal_rank(queries: NDArray[np.float64], targets: NDArray[Any]) -> float:
    """Mean over queries of 1 / (how many targets fit as well as its own or better).

    queries, targets: [samples, size], of length one; equal targets are one target.
    """
    kept, own = np.unique(targets, axis=0, return_inverse=True)
    fits = np.nan_to_num(queries @ kept.T.astype(np.float64), nan=-1.0)
    right = np.take_along_axis(fits, own.reshape(-1, 1), axis=1)
    return float(np.mean(1.0 / (fits >= right).sum(axis=1)))


@lru_cache(maxsize=1)
def halved_stories() -> tuple[tuple[tuple[str, ...], str], ...]:
    """(sentences of the first half, second half) of each different story of four sentences or more."""
    path = fetch(GENSIM) / "gensim" / "test" / "test_data" / "lee_background.cor"
    stories = dict.fromkeys(path.read_text(encoding="latin-1").strip().split("\n"))
    return tuple(halves for halves in map(halve, stories) if halves is not None)


def halve(story: str) -> tuple[tuple[str, ...], str] | None:
    """Split between the sentences in the middle; None for fewer than four sentences. Few words are no query."""
    sentences = _SENTENCE_END.split(story.strip())
    if len(sentences) < _FEWEST_SENTENCES:
        return None
    middle = len(sentences) // 2
    queries = (sentence for sentence in sentences[:middle] if len(sentence.split()) >= _FEWEST_WORDS)
    return tuple(queries), " ".join(sentences[middle:])


@cache
def _float_embedding(text: str) -> NDArray[np.float32]:
    (found,) = _float_session().run([POOLED_OUTPUT], model_inputs(text))
    return pooled({POOLED_OUTPUT: found}).astype(np.float32)


@lru_cache(maxsize=1)
def _float_session() -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingDependency(
            "The samples of minilm_stories need onnxruntime, to embed the second halves.",
            "pip install 'lwc-compiler[cpu]'",
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(zoo.path("minilm-l3"), options, providers=["CPUExecutionProvider"])
