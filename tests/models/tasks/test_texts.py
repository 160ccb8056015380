"""Strings to draw: short, plain, and never in both splits."""

import numpy as np
import pytest

from lwc.models.tasks.texts import chinese_piece, draw_text, english_piece, in_split, read_catalogue, serial_number


def test_a_string_belongs_to_exactly_one_split() -> None:
    texts = [f"string {number}" for number in range(200)]
    assert all(in_split(text, "test") != in_split(text, "calibration") for text in texts)
    assert 60 < sum(in_split(text, "test") for text in texts) < 140


def test_an_english_piece_is_whole_words_that_fit_a_line() -> None:
    assert english_piece("Show the line numbers in all of the open editors") == "Show the line numbers in all"
    assert english_piece("  Run\n all  cells ") == "Run all cells"


@pytest.mark.parametrize("text", ["", "Go", "50 %1", "naïve café", "x" * 40, "a_b_c_d"])
def test_an_english_piece_with_rare_signs_or_of_no_length_is_dropped(text: str) -> None:
    assert english_piece(text) == ""


def test_a_chinese_piece_is_the_first_run_without_spaces() -> None:
    assert chinese_piece("%1 正在保存文件，请稍候 ...") == "正在保存文件，请稍候"
    assert chinese_piece("保存 %1") == ""
    assert chinese_piece("no Chinese") == ""


def test_a_catalogue_gives_its_keys_in_english_and_its_values_in_chinese() -> None:
    entries = {"": ["header"], "menu\x04Save all files": ["保存所有文件"], "%1": ["%1"]}
    assert read_catalogue(entries, "en") == {"Save all files"}
    assert read_catalogue(entries, "zh") == {"保存所有文件"}


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_serial_numbers_stay_in_their_split(split: str) -> None:
    rng = np.random.default_rng(0)
    numbers = [serial_number(rng, split) for _ in range(50)]
    assert all(in_split(number, split) for number in numbers)
    assert len(set(numbers)) == 50


def test_the_share_of_chinese_is_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwc.models.tasks.texts.messages", lambda language, split: (language,))
    rng = np.random.default_rng(0)
    for share, low, high in ((0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)):
        drawn = [draw_text(rng, "test", share) for _ in range(200)]
        assert low <= sum(language == "zh" for _, language in drawn) <= high
        assert all(text == "zh" for text, language in drawn if language == "zh")
