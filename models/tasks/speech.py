"""Tracks of speech with known gaps, in noise: recordings that ship inside registry packages, 16 kHz mono.

A track alternates silence and excerpts of the recordings, over noise of its own kind and loudness. Each window of
512 samples (32 ms) is labelled from the clean sound: 1 speech, 0 none, -1 not sure, to be left out.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from lwc.models.packages import Package, fetch
from lwc.models.tasks.splits import SPLITS

PYANNOTE = Package(
    name="pyannote.audio",
    version="4.0.7",
    sha256="852ea15c4d85bc34773e618267603ffca6a521669a74d33742692cc67fc700d6",
    licence="MIT",
)
MOONSHINE = Package(
    name="useful-moonshine-onnx",
    version="20251121",
    sha256="b4189b0d7dc8064d567fd0b5d5ce78634be290b0a3a3274ab80ad11c46d531a2",
    licence="MIT",
)
F5_TTS = Package(
    name="f5-tts",
    version="1.1.22",
    sha256="f0505dfb5463645caa526bace346ed1c89bcc9acb9ef42fdffd56c2c4c0a09d1",
    licence="MIT",
)
RATE = 16000
WINDOW = 512

_LOUD_DB, _QUIET_DB = -18.0, -50.0  # against the recording's loud windows: surely speech above, surely none below
_SETTLING = 4  # windows
_FADE = 160  # samples
_NOISES = ("white", "pink", "hum")


@dataclass(frozen=True)
class Recording:
    """Sound [samples] at 16 kHz whose loud windows have level 1, and where people heard speech [samples]."""

    sound: NDArray[np.float64]
    spoken: NDArray[np.bool_]

    def part(self, start: int, length: int) -> Recording:
        return Recording(self.sound[start : start + length], self.spoken[start : start + length])


@dataclass(frozen=True)
class Track:
    """Sound [windows * 512] in -1..1 and labels [windows]: 1 speech, 0 none, -1 not sure."""

    sound: NDArray[np.float32]
    labels: NDArray[np.int64]


@lru_cache(maxsize=2)
def recordings(split: str) -> tuple[Recording, ...]:
    """The first halves of all recordings for calibration, the second halves for test."""
    conversation = fetch(PYANNOTE) / "pyannote" / "audio" / "sample"
    examples = fetch(F5_TTS) / "f5_tts" / "infer" / "examples" / "basic"
    read = [
        read_recording(conversation / "sample.wav", conversation / "sample.rttm"),
        read_recording(fetch(MOONSHINE) / "moonshine_onnx" / "assets" / "beckett.wav"),
        read_recording(examples / "basic_ref_en.wav"),
        read_recording(examples / "basic_ref_zh.wav"),
    ]
    half = SPLITS.index(split)
    return tuple(one.part(half * (len(one.sound) // 2), len(one.sound) // 2) for one in read)


def read_recording(path: Path, turns: Path | None = None) -> Recording:
    """A mono 16-bit .wav at any rate; turns: who spoke when, RTTM; without it, speech may be anywhere."""
    with wave.open(str(path)) as stream:
        rate = stream.getframerate()
        sound = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2").astype(np.float64)
    common = int(np.gcd(rate, RATE))
    sound = np.asarray(resample_poly(sound, RATE // common, rate // common), dtype=np.float64)
    spoken = np.full(len(sound), turns is None, dtype=np.bool_)
    for start, end in read_turns(turns.read_text(encoding="utf-8")) if turns is not None else []:
        spoken[int(start * RATE) : int(end * RATE)] = True
    return Recording(sound / 10.0 ** (np.percentile(levels(sound), 90) / 20.0), spoken)


def read_turns(rttm: str) -> list[tuple[float, float]]:
    """Start and end in seconds of each SPEAKER line."""
    fields = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER")]
    return [(float(field[3]), float(field[3]) + float(field[4])) for field in fields]


def levels(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square of each window of 512 samples, in dB; a rest that fills no window is left out."""
    windows = sound[: len(sound) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return np.asarray(10.0 * np.log10(np.mean(windows**2, axis=1) + 1e-12))


def random_track(rng: np.random.Generator, sources: Sequence[Recording], seconds: float) -> Track:
    """Silence and speech in turn until the time is full, noise 5 to 30 dB below the speech, any loudness."""
    total = int(seconds * RATE) // WINDOW * WINDOW
    sound, spoken = np.zeros(total), np.zeros(total, dtype=np.bool_)
    position = int(rng.uniform(0.2, 2.0) * RATE)
    while position < total:
        piece = _random_piece(rng, sources[int(rng.integers(len(sources)))], total - position)
        end = position + len(piece.sound)
        sound[position:end], spoken[position:end] = piece.sound, piece.spoken
        position = end + int(rng.uniform(0.5, 2.0) * RATE)
    labels = window_labels(sound, spoken)
    noisy = sound + 10.0 ** (rng.uniform(-30.0, -5.0) / 20.0) * random_noise(rng, total)
    peak = 10.0 ** (rng.uniform(-20.0, -1.0) / 20.0)
    return Track((peak * noisy / np.abs(noisy).max()).astype(np.float32), labels)


def _random_piece(rng: np.random.Generator, source: Recording, longest: int) -> Recording:
    """One to three seconds of a recording, faded in and out."""
    length = min(int(rng.uniform(1.0, 3.0) * RATE), longest, len(source.sound))
    piece = source.part(int(rng.integers(len(source.sound) - length + 1)), length)
    ramp = np.minimum(np.arange(length), np.arange(length)[::-1]) / _FADE
    return Recording(piece.sound * np.minimum(ramp, 1.0), piece.spoken)


def window_labels(sound: NDArray[np.float64], spoken: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Speech where people heard it and the window is loud; none where nobody heard it or it is silent.

    The first windows of either kind stay unsure, as does the last before speech: a detector needs time to decide.
    """
    level = levels(sound)
    heard = spoken.reshape(-1, WINDOW)
    none = ~heard.any(axis=1) | (level < _QUIET_DB)
    speech = heard.all(axis=1) & (level > _LOUD_DB) & ~_within(none, before=_SETTLING, after=0)
    return np.where(speech, 1, np.where(none & ~_within(~none, before=_SETTLING, after=1), 0, -1)).astype(np.int64)


def _within(flags: NDArray[np.bool_], before: int, after: int) -> NDArray[np.bool_]:
    """Where a flag is set at the place, or so few places before or after it."""
    padded = np.pad(flags, (before, after))
    return np.asarray(np.any([padded[shift : shift + len(flags)] for shift in range(before + after + 1)], axis=0))


def random_noise(rng: np.random.Generator, length: int) -> NDArray[np.float64]:
    """White noise, pink noise (amplitude 1/sqrt(f)) or a mains hum with noise; mean square one."""
    kind = _NOISES[rng.integers(len(_NOISES))]
    noise = rng.standard_normal(length)
    if kind == "pink":
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1.0), length)
    if kind == "hum":
        time = np.arange(length) / RATE
        noise = 0.3 * noise + sum(np.sin(2.0 * np.pi * (50.0 * k * time + rng.random())) / k for k in range(1, 8))
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))
