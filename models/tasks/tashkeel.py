"""Which vowel signs belong on bare Arabic letters? Rawi v2 on verses of the Quran, 1 - diacritic error rate.

A sample is {"input": [1, letters] int64, "label": [1, letters] int64}: a verse without its signs, and for each
character the set of signs that stood on it (see sign_set), -1 where it is no letter. Verses are of one split each.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.packages import Package, fetch
from lwc.models.tasks.splits import draw
from lwc.models.zoo_table import TASHKEEL

QURAN = Package(
    name="quran-text",
    version="0.1.0",
    sha256="8b9a0c23ccabe6ff2a25732c7004af267ce2f10de3953fb6e27c37607891fe77",
    licence="CC-BY-4.0",
)

_CALIBRATION_COUNT = 128
_LONGEST_VERSE = 40  # words
_UNKNOWN = "<UNK>"
# Spelling of the printed Quran to the everyday one: alef wasla, the open forms of the three nunations, small sukun.
_EVERYDAY = {
    "\u0671": "\u0627",
    "\u08f0": "\u064b",
    "\u08f1": "\u064c",
    "\u08f2": "\u064d",
    "\u06e1": "\u0652",
}
# Nunations, short vowels and the sign of doubling. The sukun counts as no sign: the two spellings use it differently.
_SIGNS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651"


@dataclass(frozen=True)
class Vocabulary:
    """character -> input id;  sets: the sign set of each output class [classes]."""

    characters: Mapping[str, int]
    sets: NDArray[np.int64]


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """At most count of the verses of one split (some 3,000), none longer than 40 words."""
    known = vocabulary().characters
    texts = verses()
    for position in draw(len(texts), count, seed, split):
        letters, signs = strip_signs(texts[position])
        ids = [known.get(letter, known[_UNKNOWN]) for letter in letters]
        yield {"input": np.array([ids], dtype=np.int64), "label": np.array([signs], dtype=np.int64)}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.tashkeel:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """Share of the letters of one verse that got their very signs back."""
    return letters_right(vocabulary().sets[outputs["output"].argmax(-1)], sample["label"])


def letters_right(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Share of letters with equal sign sets; places with -1 do not count, and no letters at all are right."""
    is_letter = true >= 0
    return float(np.mean(found[is_letter] == true[is_letter])) if is_letter.any() else 1.0


def strip_signs(text: str) -> tuple[str, list[int]]:
    """The characters of a text without combining marks, and the sign set of each, -1 for what is no letter.

    Decomposed, as the model wants it: a hamza above or below a letter is a mark as well, and is taken off.
    """
    letters = ""
    signs: list[int] = []
    for character in unicodedata.normalize("NFD", "".join(_EVERYDAY.get(sign, sign) for sign in text)):
        category = unicodedata.category(character)
        if category == "Mn":
            if signs and signs[-1] >= 0:
                signs[-1] |= sign_set(character)
        elif category not in ("So", "Lm", "Cf"):
            letters += character
            signs.append(0 if category == "Lo" else -1)
    return letters, signs


def sign_set(marks: str) -> int:
    """One bit for each of the seven signs; other marks, the sukun among them, have none."""
    return sum(1 << bit for bit, sign in enumerate(_SIGNS) if sign in marks)


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """What the model reads and says."""
    path = fetch(TASHKEEL) / "text2tashkeel" / "models" / "rawi_v2.vocab.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    sets = np.zeros(len(stored["diac_to_idx"]), dtype=np.int64)
    for marks, index in stored["diac_to_idx"].items():
        sets[index] = sign_set(marks)
    return Vocabulary(stored["char_to_idx"], sets)


@lru_cache(maxsize=1)
def verses() -> tuple[str, ...]:
    """The different verses of 40 words at most, in their order."""
    stored = json.loads((fetch(QURAN) / "quran_text_data" / "hafs.json").read_text(encoding="utf-8"))
    words, starts = stored["words"], [*stored["ayah_starts"], len(stored["words"])]
    return tuple(dict.fromkeys(" ".join(words[a:b]) for a, b in pairwise(starts) if b - a <= _LONGEST_VERSE))
