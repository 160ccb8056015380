"""Text to the token ids of an uncased BERT (Devlin et al. 2019): clean, split at blanks and signs, longest match first.

ids(text) = [CLS] wordpiece(word 1) wordpiece(word 2) ... [SEP]
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LONGEST_WORD = 100
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


@dataclass(frozen=True)
class WordPiece:
    """Tokenizer of an uncased vocabulary.

    vocabulary: token -> id, pieces within a word begin with '##';  longest: tokens kept, [CLS] and [SEP] included
    """

    vocabulary: Mapping[str, int]
    longest: int = 128

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids [tokens], cut to the longest length."""
        pieces = [piece for word in words(text) for piece in self._pieces(word)]
        marked = ["[CLS]", *pieces[: self.longest - 2], "[SEP]"]
        return np.array([self.vocabulary[piece] for piece in marked], dtype=np.int64)

    def _pieces(self, word: str) -> list[str]:
        """The longest known beginning, then the longest known '##' piece, and so on; [UNK] if that fails."""
        pieces: list[str] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self.vocabulary), None)
            if end is None or len(word) > _LONGEST_WORD:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces


def words(text: str) -> Iterator[str]:
    """Lower-case words without accents; every punctuation sign and ideograph is a word of its own."""
    word = ""
    for character in normalized(text):
        if character == " " or is_alone(character):
            if word:
                yield word
            if character != " ":
                yield character
            word = ""
        else:
            word += character
    if word:
        yield word


def normalized(text: str) -> str:
    """Lower case, accents and control characters removed, every kind of blank a plain space."""
    cleaned = "".join(" " if is_blank(character) else character for character in text if not is_control(character))
    decomposed = unicodedata.normalize("NFD", cleaned)
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn").lower()


def is_blank(character: str) -> bool:
    return character in "\t\n\r" or unicodedata.category(character) == "Zs"


def is_control(character: str) -> bool:
    """Signs that are dropped: controls but tab and line ends, formats, private use, NUL and the replacement sign."""
    if character in "\t\n\r":
        return False
    return character in "\0\ufffd" or unicodedata.category(character).startswith("C")


def is_alone(character: str) -> bool:
    """Punctuation, ASCII signs such as $ or +, and CJK ideographs."""
    code = ord(character)
    if code < 128:
        return code >= 33 and not character.isalnum() and code != 127
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return True
    return unicodedata.category(character).startswith("P")
