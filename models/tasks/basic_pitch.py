"""Which notes sound in each frame? Basic Pitch (Bittner et al. 2022) on synthesised chords, frame F1.

A sample is {"serving_default_input_2:0": [1, 43844, 1] float32, "notes": [172, 88] bool}: two seconds of sound at
22,050 Hz with two to four chords of plucked strings, and which of the piano's 88 keys sound in each of the 172
frames, 256 samples apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.models.tasks.splits import made_item_rng

INPUT = "serving_default_input_2:0"
NOTE_OUTPUT = "StatefulPartitionedCall:1"
THRESHOLD = 0.3  # of the note posterior, as the package's own predict() takes it

_RATE = 22050
_SAMPLES = 43844
_HOP = 256
_FRAMES, _KEYS = 172, 88
_LOWEST_KEY_HZ = 27.5
_KEY_RANGE = (15, 64)  # C2 to C#6: below, partials are too dense for the model's bins; above, strings die at once
_PARTIALS = 20
_ATTACK, _DAMPING = 0.005, 0.02  # seconds
_CALIBRATION_COUNT = 64


@dataclass(frozen=True)
class Note:
    """One plucked string: key 0..87, when it starts and when it is damped [seconds], how loud (0..1)."""

    key: int
    start: float
    end: float
    loudness: float


@dataclass(frozen=True)
class Timbre:
    """How a string sounds: partial k has amplitude k^-roll_off, and decays at decay * k^0.5 per second."""

    roll_off: float
    decay: float
    inharmonicity: float


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """Pieces of music made up from the seed, each with its own instrument, loudness and noise."""
    for index in range(count):
        rng = made_item_rng("basic-pitch", seed, split, index)
        notes = random_chords(rng)
        timbre = Timbre(rng.uniform(1.0, 2.0), rng.uniform(0.5, 2.0), rng.uniform(0.0, 3e-4))
        sound = sum((pluck(note, timbre, rng) for note in notes), np.zeros(_SAMPLES))
        sound *= rng.uniform(0.2, 0.9) / np.abs(sound).max()
        sound += 10.0 ** rng.uniform(-4.0, -2.5) * rng.standard_normal(_SAMPLES)
        yield {INPUT: sound.astype(np.float32)[np.newaxis, :, np.newaxis], "notes": piano_roll(notes)}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.basic_pitch:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """F1 over frames and keys of one piece, where a key sounds if its posterior is 0.3 or more."""
    return f1(outputs[NOTE_OUTPUT][0] >= THRESHOLD, sample["notes"])


def f1(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """2 |found and true| / (|found| + |true|); 1 where both are empty."""
    total = int(found.sum()) + int(true.sum())
    return 2.0 * int((found & true).sum()) / total if total else 1.0


def random_chords(rng: np.random.Generator) -> list[Note]:
    """Two to four chords of one to four different keys that follow each other, with short rests."""
    edges = np.linspace(0.0, _SAMPLES / _RATE, int(rng.integers(2, 5)) + 1)
    notes: list[Note] = []
    for begin, end in pairwise(edges):
        start = begin + rng.uniform(0.0, 0.05)
        stop = end - rng.uniform(0.02, 0.12)
        keys = rng.choice(np.arange(*_KEY_RANGE), size=int(rng.integers(1, 5)), replace=False)
        notes += [Note(int(key), start, stop, rng.uniform(0.5, 1.0)) for key in keys]
    return notes


def pluck(note: Note, timbre: Timbre, rng: np.random.Generator) -> NDArray[np.float64]:
    """The sound [43844] of one string: partials at k f sqrt(1 + B k^2), with an attack and a damper of some ms."""
    first, last = int(note.start * _RATE) + 1, min(int((note.end + _DAMPING) * _RATE), _SAMPLES)
    time = np.arange(first, last) / _RATE - note.start
    frequency = _LOWEST_KEY_HZ * 2.0 ** (note.key / 12.0)
    ringing = np.zeros(len(time))
    for k in range(1, _PARTIALS + 1):
        partial = k * frequency * np.sqrt(1.0 + timbre.inharmonicity * k * k)
        if partial >= 0.45 * _RATE:
            break
        fading = np.exp(-timbre.decay * np.sqrt(k) * time)
        ringing += k**-timbre.roll_off * fading * np.sin(2.0 * np.pi * (partial * time + rng.random()))
    ringing *= np.clip(time / _ATTACK, 0.0, 1.0) * np.clip(
        (note.end + _DAMPING - note.start - time) / _DAMPING, 0.0, 1.0
    )
    sound = np.zeros(_SAMPLES)
    sound[first:last] = note.loudness * ringing
    return sound


def piano_roll(notes: list[Note]) -> NDArray[np.bool_]:
    """Which keys sound in the middle of each frame: [172, 88]."""
    time = np.arange(_FRAMES) * _HOP / _RATE
    roll = np.zeros((_FRAMES, _KEYS), dtype=np.bool_)
    for note in notes:
        roll[(time >= note.start) & (time < note.end), note.key] = True
    return roll
