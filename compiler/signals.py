"""Random signals with the statistics of natural ones, for inputs that nobody supplied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def image(rng: np.random.Generator, channels: int, height: int, width: int) -> Floats:
    """[channels, height, width] in 0 .. 1, amplitudes falling as photographs' do, 1/f^1.2, and some edges.

    Tolhurst, Tadmor & Chao 1992 found exponents from 0.8 to 1.5. Channels share most of their
    light, as colours of one scene do.
    """
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falling = 1.0 / np.maximum(np.hypot(rows, columns), 1.0 / max(height, width, 2)) ** 1.2
    fields = [
        np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falling, (height, width))
        for _ in range(channels + 1)
    ]
    light, *colours = [(field - field.mean()) / (field.std() or 1.0) for field in fields]
    scene = np.stack([light + 0.3 * colour for colour in colours])
    for _ in range(rng.integers(1, 6)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        box = (slice(top, top + rng.integers(1, height + 1)), slice(left, left + rng.integers(1, width + 1)))
        scene[:, box[0], box[1]] = 0.3 * scene[:, box[0], box[1]] + rng.normal(0.0, 1.0, (channels, 1, 1))
    clipped: Floats = np.clip(rng.uniform(0.35, 0.6) + rng.uniform(0.15, 0.25) * scene, 0.0, 1.0)
    return clipped


def sound(rng: np.random.Generator, samples: int, rate: float = 16000.0) -> Floats:
    """[samples] in -1 .. 1: harmonics of a voice's pitch in bursts of some syllables a second, over soft noise."""
    time = np.arange(samples) / rate
    pitch = rng.uniform(90.0, 250.0)
    voice = np.zeros(samples)
    for harmonic in range(1, 12):
        voice += np.sin(2 * np.pi * harmonic * pitch * time + rng.uniform(0, 2 * np.pi)) / harmonic
    bursts = np.clip(np.sin(2 * np.pi * rng.uniform(2.0, 5.0) * time + rng.uniform(0, 2 * np.pi)), 0.0, 1.0)
    loud: Floats = 0.15 * voice * bursts + 0.005 * rng.standard_normal(samples)
    return np.clip(loud, -1.0, 1.0)


def tokens(rng: np.random.Generator, vocabulary: int, shape: Sequence[int]) -> NDArray[np.int64]:
    """Codes below `vocabulary`, small ones more often, as the ranks of words are (Zipf): uniform in log(1 + code)."""
    drawn = np.floor(np.expm1(rng.random(tuple(shape)) * np.log1p(vocabulary)))
    codes: NDArray[np.int64] = np.minimum(drawn, vocabulary - 1).astype(np.int64)
    return codes
