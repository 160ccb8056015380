"""Tracks of speech with known gaps."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from lwc.models.tasks.speech import (
    RATE,
    WINDOW,
    Recording,
    levels,
    random_noise,
    random_track,
    read_recording,
    read_turns,
    recordings,
    window_labels,
)

TONE = np.sin(2.0 * np.pi * 440.0 * np.arange(10 * RATE) / RATE) * np.sqrt(2.0)
SPOKEN = np.ones(len(TONE), dtype=np.bool_)


def write_tone(path: Path, rate: int, seconds: float) -> Path:
    samples = np.sin(2.0 * np.pi * 440.0 * np.arange(int(rate * seconds)) / rate) * 8000.0
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples.astype("<i2").tobytes())
    return path


def test_the_level_of_a_window_is_its_root_mean_square_in_db() -> None:
    assert levels(np.full(WINDOW * 2 + 7, 0.1)) == pytest.approx([-20.0, -20.0])


def test_reads_turns_of_speakers_alone() -> None:
    assert read_turns("SPEAKER a 1 6.5 0.5 <NA>\nSPKR-INFO a 1\nSPEAKER a 1 8.0 1.0 <NA>\n") == [(6.5, 7.0), (8.0, 9.0)]


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
def test_reads_a_recording_at_any_rate_as_16_khz_of_level_one(tmp_path: Path, rate: int) -> None:
    read = read_recording(write_tone(tmp_path / "a.wav", rate, 1.0))
    assert len(read.sound) == pytest.approx(RATE, abs=2)
    assert np.abs(np.fft.rfft(read.sound)).argmax() == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(read.sound**2)) == pytest.approx(1.0, abs=0.02)
    assert read.spoken.all()


def test_only_turns_are_spoken_where_turns_are_known(tmp_path: Path) -> None:
    turns = tmp_path / "a.rttm"
    turns.write_text("SPEAKER a 1 0.25 0.5 <NA>\n", encoding="utf-8")
    spoken = read_recording(write_tone(tmp_path / "a.wav", RATE, 1.0), turns).spoken
    assert np.flatnonzero(spoken).tolist() == list(range(4000, 12000))


def test_labels_loud_windows_as_speech_and_silent_ones_as_none_but_not_at_the_edges() -> None:
    sound = np.concatenate([np.zeros(10 * WINDOW), TONE[: 10 * WINDOW], np.zeros(10 * WINDOW)])
    labels = window_labels(sound, np.ones(len(sound), dtype=np.bool_))
    assert labels.tolist() == [0] * 9 + [-1] * 5 + [1] * 6 + [-1] * 4 + [0] * 6


def test_sound_that_nobody_heard_as_speech_is_none() -> None:
    sound = TONE[: 4 * WINDOW]
    assert window_labels(sound, np.zeros(len(sound), dtype=np.bool_)).tolist() == [0] * 4


def test_sound_neither_loud_nor_silent_is_unsure() -> None:
    sound = 0.03 * TONE[: 4 * WINDOW]
    assert window_labels(sound, np.ones(len(sound), dtype=np.bool_)).tolist() == [-1] * 4


def test_a_track_has_both_kinds_of_windows_and_fits_the_range() -> None:
    track = random_track(np.random.default_rng(0), [Recording(TONE, SPOKEN)], 12.0)
    assert len(track.sound) == len(track.labels) * WINDOW
    assert {0, 1} <= set(track.labels.tolist())
    assert np.abs(track.sound).max() <= 1.0
    by_label = [np.mean(track.sound.reshape(-1, WINDOW)[track.labels == label] ** 2) for label in (0, 1)]
    assert by_label[0] < by_label[1]


@pytest.mark.parametrize("seed", range(6))
def test_noise_has_mean_square_one(seed: int) -> None:
    noise = random_noise(np.random.default_rng(seed), 4 * RATE)
    assert np.mean(noise**2) == pytest.approx(1.0)


@pytest.mark.zoo
def test_the_splits_are_different_halves_of_the_recordings() -> None:
    for first, second in zip(recordings("calibration"), recordings("test"), strict=True):
        assert len(first.sound) == len(second.sound) > 2 * RATE
        assert not np.array_equal(first.sound, second.sound)
