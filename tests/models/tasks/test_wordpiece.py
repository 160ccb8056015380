"""Text to token ids."""

from __future__ import annotations

import pytest

from lwc.models.tasks.wordpiece import WordPiece, normalized, words

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "able", ",", "!", "cafe", "ab", "##c"]
TINY = WordPiece({token: index for index, token in enumerate(TOKENS)})


def tokens(text: str, longest: int = 128) -> list[str]:
    return [TOKENS[index] for index in WordPiece(TINY.vocabulary, longest).encode(text)]


def test_splits_a_word_into_the_longest_pieces_it_knows() -> None:
    assert tokens("unaffable") == ["[CLS]", "un", "##aff", "##able", "[SEP]"]


def test_a_word_that_cannot_be_pieced_together_is_unknown_as_a_whole() -> None:
    assert tokens("unaffq able") == ["[CLS]", "[UNK]", "able", "[SEP]"]


def test_signs_are_words_of_their_own() -> None:
    assert tokens("able,able!") == ["[CLS]", "able", ",", "able", "!", "[SEP]"]


def test_case_and_accents_do_not_matter() -> None:
    assert tokens("CAFÉ") == ["[CLS]", "cafe", "[SEP]"]


def test_a_long_text_is_cut_and_still_ends_with_the_separator() -> None:
    assert tokens("able " * 50, longest=5) == ["[CLS]", "able", "able", "able", "[SEP]"]


def test_a_word_of_more_than_a_hundred_letters_is_unknown() -> None:
    assert tokens("ab" + "c" * 98) == ["[CLS]", "ab", *["##c"] * 98, "[SEP]"]
    assert tokens("ab" + "c" * 99) == ["[CLS]", "[UNK]", "[SEP]"]


def test_an_empty_text_is_just_the_two_marks() -> None:
    assert tokens(" \n") == ["[CLS]", "[SEP]"]


def test_blanks_become_spaces_and_controls_vanish() -> None:
    assert normalized("a\tb\u00a0c\u200bd\0e\ufffdf") == "a b cdef"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it's $5+", ["it", "'", "s", "$", "5", "+"]),
        ("日本go", ["日", "本", "go"]),
        ("“so”—no", ["“", "so", "”", "—", "no"]),
        ("naïve Ångström", ["naive", "angstrom"]),
    ],
)
def test_splits_at_blanks_signs_and_ideographs(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected
