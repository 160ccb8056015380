"""Short strings with nothing to label: interface messages in English and Chinese, and made-up serial numbers.

A string belongs to the test split when the lowest bit of its CRC-32 is one, to calibration when it is zero: the
two splits share no string, whatever the seeds and counts.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from zlib import crc32

import numpy as np

from lwc.models.packages import Package, fetch

MESSAGES = Package(
    name="jupyterlab-language-pack-zh-cn",
    version="4.5.post3",
    sha256="47cdb0c41c6b066e795c867786c9c29fde527e2bf15aa6b3e9b2bab9929304b5",
    licence="BSD-3-Clause",
)

_ENGLISH_LENGTH = (4, 28)
_CHINESE_LENGTH = (3, 16)
_SERIAL_SHAPES = ("SN-@@##-####", "####-##-##", "$#,###.##", "No.######", "@@-######/##", "(###)###-####")
_PLAIN_ENGLISH = re.compile(r"[A-Za-z0-9 ,.:;?!'&/+-]+")
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def in_split(text: str, split: str) -> bool:
    """Whether a string belongs to the split "calibration" or "test"."""
    return crc32(text.encode("utf-8")) & 1 == (1 if split == "test" else 0)


@lru_cache(maxsize=8)
def messages(language: str, split: str) -> tuple[str, ...]:
    """Distinct interface messages of one split, sorted; language is "en" or "zh"."""
    folder = fetch(MESSAGES) / "jupyterlab_language_pack_zh_CN" / "locale" / "zh_CN" / "LC_MESSAGES"
    found: set[str] = set()
    for catalogue in sorted(folder.glob("*.json")):
        found.update(read_catalogue(json.loads(catalogue.read_text(encoding="utf-8")), language))
    return tuple(sorted(text for text in found if in_split(text, split)))


def read_catalogue(entries: dict[str, list[str]], language: str) -> set[str]:
    """Pieces of one message catalogue: its keys are English, its values lists of Chinese forms."""
    found: set[str] = set()
    for key, translations in entries.items():
        if not key:
            continue
        texts = [key.rpartition("\x04")[2]] if language == "en" else translations
        pieces = (english_piece(text) if language == "en" else chinese_piece(text) for text in texts)
        found.update(piece for piece in pieces if piece)
    return found


def english_piece(text: str) -> str:
    """The first words of a message that fit a line; empty if it is too short or holds rare signs."""
    shortest, longest = _ENGLISH_LENGTH
    piece = ""
    for word in text.split():
        if len(piece) + len(word) + 1 > longest:
            break
        piece = f"{piece} {word}".strip()
    return piece if len(piece) >= shortest and _PLAIN_ENGLISH.fullmatch(piece) else ""


def chinese_piece(text: str) -> str:
    """The first run of a message without spaces or ASCII punctuation; empty if it holds too little Chinese."""
    shortest, longest = _CHINESE_LENGTH
    run = re.search(r"[\u4e00-\u9fff][\u4e00-\u9fff0-9A-Za-z，。：；！？]*", text)
    piece = run.group()[:longest] if run else ""
    return piece if len(piece) >= shortest else ""


def serial_number(rng: np.random.Generator, split: str) -> str:
    """A made-up code, date, price or telephone number of the given split."""
    while True:
        shape = _SERIAL_SHAPES[rng.integers(len(_SERIAL_SHAPES))]
        letters = rng.integers(len(_LETTERS), size=len(shape))
        digits = rng.integers(10, size=len(shape))
        text = "".join(
            _LETTERS[letter] if mark == "@" else str(digit) if mark == "#" else mark
            for mark, letter, digit in zip(shape, letters, digits, strict=True)
        )
        if in_split(text, split):
            return text


def draw_text(rng: np.random.Generator, split: str, chinese_share: float) -> tuple[str, str]:
    """One string and its language: a share of Chinese, one serial number to every three messages otherwise."""
    if rng.random() < chinese_share:
        pool = messages("zh", split)
        return pool[rng.integers(len(pool))], "zh"
    if rng.random() < 0.25:
        return serial_number(rng, split), "en"
    pool = messages("en", split)
    return pool[rng.integers(len(pool))], "en"
