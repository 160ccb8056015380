"""Sizes for the free dimensions of made-up inputs, by type, rank and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lwc.compiler.core.accumulate import is_float
from lwc.compiler.core.backend import Port
from lwc.compiler.fitting import STATE

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Sizes:
    """What free dimensions become. Sides are multiples of 32, as most networks halve five times.

    height, width: pixels;  steps: tokens or frames;  samples: of sound
    """

    height: int = 224
    width: int = 224
    steps: int = 64
    samples: int = 16000


# Tried in turn on a model that refuses the first: text lines, detectors, small images, frames of sound, short texts.
CANDIDATES = (
    Sizes(),
    Sizes(48, 320, 128, 512),
    Sizes(640, 640, 32, 1024),
    Sizes(32, 320, 16, 32000),
    Sizes(299, 299, 512, 48000),
    Sizes(64, 64, 8, 256),
    Sizes(28, 28, 1, 1),
)
LINE = 320  # pixels of the free side of a text line, whose other side is at most 64


def resolve(inputs: Sequence[Port], fixed: Mapping[str, Sequence[int]], free: Sizes) -> dict[str, tuple[int, ...]]:
    """Sizes for free dimensions; those of one name agree across inputs."""
    symbols: dict[str, int] = {}
    for port in inputs:
        for dimension, size in zip(port.shape, fixed.get(port.name, ()), strict=False):
            if isinstance(dimension, str) and dimension != "?":
                symbols[dimension] = int(size)
    shapes: dict[str, tuple[int, ...]] = {}
    for port in inputs:
        if port.name in fixed:
            shapes[port.name] = tuple(int(size) for size in fixed[port.name])
            continue
        guessed = _guess(port, free)
        sizes = []
        for dimension, guess in zip(port.shape, guessed, strict=True):
            known = symbols.setdefault(dimension, guess) if isinstance(dimension, str) and dimension != "?" else guess
            sizes.append(known)
        shapes[port.name] = tuple(sizes)
    return shapes


def _guess(port: Port, default: Sizes) -> list[int]:
    """A size for every dimension of one input, by rank and name."""
    shape = port.shape
    free = [not isinstance(size, int) for size in shape]
    sizes = [size if isinstance(size, int) else default.steps for size in shape]
    named = [size.lower() if isinstance(size, str) else "" for size in shape]
    if len(shape) == 4 and (is_float(port.dtype) or port.dtype == np.uint8) and not STATE.search(port.name):
        last = not free[3] and sizes[3] in CHANNELS and sizes[1] not in CHANNELS
        sides = (1, 2) if last else (2, 3)
        if not last and free[1]:
            sizes[1] = 3
        for side, other, size in ((*sides, default.height), (*sides[::-1], default.width)):
            if free[side]:
                sizes[side] = LINE if not free[other] and sizes[other] <= 64 else size
    elif is_float(port.dtype) and len(shape) in (1, 2) and free[-1] and not STATE.search(port.name):
        sizes[-1] = default.samples
    elif STATE.search(port.name) and len(shape) == 3 and free[1]:
        sizes[1] = 1  # [layers, batch, hidden]
    if free and free[0] and (len(shape) > 1 or "batch" in named[0] or not is_float(port.dtype)):
        sizes[0] = 1
    for axis, name in enumerate(named):
        if "batch" in name and free[axis]:
            sizes[axis] = 1
        if "past" in name:
            sizes[axis] = 2 * default.steps if "+" in name else default.steps
    return sizes
