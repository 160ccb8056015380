"""Arabic letters and their vowel signs."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.tashkeel import letters_right, metric, samples, sign_set, strip_signs, verses, vocabulary

FATHA, KASRA, SHADDA, SUKUN = "\u064e", "\u0650", "\u0651", "\u0652"


def test_takes_signs_off_and_remembers_which_stood_where() -> None:
    letters, signs = strip_signs(f"ب{KASRA}سم اب{SHADDA}{FATHA}")
    assert letters == "بسم اب"
    assert signs == [sign_set(KASRA), 0, 0, -1, 0, sign_set(SHADDA + FATHA)]


def test_the_order_of_signs_does_not_matter() -> None:
    assert strip_signs(f"ب{FATHA}{SHADDA}") == strip_signs(f"ب{SHADDA}{FATHA}")


def test_a_sukun_in_either_spelling_counts_as_no_sign() -> None:
    assert strip_signs(f"ب{SUKUN}") == strip_signs("ب\u06e1") == strip_signs("ب")


def test_spells_alef_wasla_and_open_nunation_the_everyday_way() -> None:
    assert strip_signs("\u0671ب\u08f0") == strip_signs("\u0627ب\u064b")


def test_takes_the_hamza_off_its_letter_without_counting_it() -> None:
    assert strip_signs("أ") == ("ا", [0])


def test_small_letters_and_verse_signs_vanish() -> None:
    assert strip_signs("ه\u06e5 ۞") == ("ه ", [0, -1])


def test_every_sign_has_its_own_bit() -> None:
    sets = [sign_set(sign) for sign in "\u064b\u064c\u064d\u064e\u064f\u0650\u0651"]
    assert sorted(sets) == [1, 2, 4, 8, 16, 32, 64]
    assert sign_set(SHADDA + FATHA) == sign_set(SHADDA) | sign_set(FATHA)


def test_counts_letters_alone() -> None:
    true = np.array([[8, -1, 0, 96]])
    assert letters_right(np.array([[8, 8, 0, 96]]), true) == 1.0
    assert letters_right(np.array([[8, 8, 1, 32]]), true) == pytest.approx(1 / 3)
    assert letters_right(np.array([[0]]), np.array([[-1]])) == 1.0


@pytest.mark.zoo
def test_reads_the_vocabulary_of_the_model() -> None:
    known = vocabulary()
    assert known.characters["<UNK>"] == 1
    assert known.sets.shape == (75,)
    assert set(known.sets.tolist()) > {0, sign_set(FATHA), sign_set(SHADDA + KASRA)}


@pytest.mark.zoo
def test_verses_are_different_and_short_and_known_to_the_model() -> None:
    assert len(set(verses())) == len(verses()) > 5000
    shown = list(samples(50, 1, "test"))
    assert all(sample["input"].shape == sample["label"].shape for sample in shown)
    assert all((sample["input"] > 1).all() for sample in shown)


@pytest.mark.zoo
def test_the_real_model_restores_most_signs() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("tashkeel"), providers=["CPUExecutionProvider"])
    scores = [
        metric({"output": session.run(["output"], {"input": sample["input"]})[0]}, sample)
        for sample in samples(60, 0, "test")
    ]
    assert 0.8 < np.mean(scores) < 0.95
