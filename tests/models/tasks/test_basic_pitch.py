"""Synthesised music and the keys that sound in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lwc.models import zoo
from lwc.models.tasks.basic_pitch import INPUT, NOTE_OUTPUT, Note, Timbre, f1, metric, piano_roll, pluck, samples

TIMBRE = Timbre(roll_off=1.5, decay=1.0, inharmonicity=0.0)
A4 = Note(key=48, start=0.5, end=1.0, loudness=1.0)


def roll(*sounding: tuple[int, int]) -> NDArray[np.bool_]:
    made = np.zeros((172, 88), dtype=np.bool_)
    for frame, key in sounding:
        made[frame, key] = True
    return made


def test_f1_weighs_what_is_missing_and_what_is_too_much_alike() -> None:
    assert f1(roll((0, 1), (0, 2)), roll((0, 1), (0, 2))) == 1.0
    assert f1(roll((0, 1)), roll((0, 1), (0, 2))) == pytest.approx(2 / 3)
    assert f1(roll((0, 1), (0, 2)), roll((0, 1))) == pytest.approx(2 / 3)
    assert f1(roll((0, 3)), roll((0, 1))) == 0.0


def test_f1_of_silence_found_silent_is_one() -> None:
    assert f1(roll(), roll()) == 1.0
    assert f1(roll((0, 0)), roll()) == 0.0


def test_the_metric_takes_the_note_output_at_its_threshold() -> None:
    posterior = np.zeros((1, 172, 88), dtype=np.float32)
    posterior[0, 5, 40], posterior[0, 6, 40] = 0.31, 0.29
    assert metric({NOTE_OUTPUT: posterior}, {"notes": roll((5, 40))}) == 1.0


def test_a_note_has_the_pitch_of_its_key() -> None:
    spectrum = np.abs(np.fft.rfft(pluck(A4, TIMBRE, np.random.default_rng(0))))
    assert spectrum.argmax() * 22050 / 43844 == pytest.approx(440.0, abs=1.0)


def test_a_note_is_silent_before_it_starts_and_after_it_is_damped() -> None:
    sound = pluck(A4, TIMBRE, np.random.default_rng(0))
    assert sound.shape == (43844,)
    assert not sound[:11025].any()
    assert not sound[int(1.02 * 22050) + 1 :].any()
    assert np.abs(sound[11025:22050]).max() > 0.5


def test_a_note_that_rings_beyond_the_piece_is_cut() -> None:
    sound = pluck(replace(A4, end=9.0), TIMBRE, np.random.default_rng(0))
    assert sound.shape == (43844,)
    assert sound[-100:].any()


def test_the_roll_marks_the_frames_of_a_note_alone() -> None:
    marked = piano_roll([A4])
    assert marked.shape == (172, 88)
    assert set(np.flatnonzero(marked.any(axis=0))) == {48}
    assert np.flatnonzero(marked[:, 48]).tolist() == list(range(44, 87))


def test_samples_are_the_same_for_the_same_seed_and_differ_between_splits() -> None:
    (first,), (again,), (test,) = samples(1, 3), samples(1, 3), samples(1, 3, "test")
    assert np.array_equal(first[INPUT], again[INPUT])
    assert not np.array_equal(first[INPUT], test[INPUT])
    assert first[INPUT].shape == (1, 43844, 1)
    assert np.abs(first[INPUT]).max() < 1.1
    assert first["notes"].any()


@pytest.mark.zoo
def test_the_real_model_hears_the_notes() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("basic-pitch"), providers=["CPUExecutionProvider"])
    scores = [
        metric({NOTE_OUTPUT: session.run([NOTE_OUTPUT], {INPUT: sample[INPUT]})[0]}, sample)
        for sample in samples(8, 0, "test")
    ]
    assert 0.85 < np.mean(scores) < 0.99
