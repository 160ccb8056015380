"""Models as what they learned since a common base: d_i = x_i - base, thinned out, weighted, added up.

    task arithmetic   base + s sum w_i d_i                                              Ilharco et al. 2023
    TIES              d_i keeps its largest values; only those of the elected sign count  Yadav et al. 2023
    DARE              d_i keeps random values, the rest makes up for them                 Yu et al. 2024
    DARE-q            the same, divided by a q of one's choice                            Deng et al. 2024

Signs are elected by the sum of the weighted d_i. Where values are normalized, each is divided by the weights that
went into it. Semantics are those of mergekit 0.1.5, so that recipes carry over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.parts import Array, Parts

Mask = NDArray[np.bool_]

L1, DENSITY, NONE = "l1", "density", "none"
RESCALES = (L1, DENSITY, NONE)
_PER_COUNTER = 8  # float32 numbers that Philox draws of one value of its counter
_NO_LENGTH = 1e-7
_NO_WEIGHT = 1e-8


class Thinning(Protocol):
    """Which values of one task vector stay, and what they are multiplied by."""

    def __call__(self, offset: Array, start: int) -> Array:
        """The stretch of the thinned task vector. start: the place of its first value"""
        ...


def task_sum(
    parts: Parts,
    weights: Sequence[float],
    thinnings: Sequence[Thinning] | None = None,
    *,
    scale: float = 1.0,
    elect: bool = False,
    normalize: bool = False,
) -> Iterator[Array]:
    """base + scale * sum w_i thinned(d_i).

    elect: only values of the elected sign count;  normalize: sums are divided by the weights that went into them
    """
    for part in parts:
        assert part.base is not None
        offsets = part.offsets()
        if thinnings is not None:
            offsets = [thin(offset, part.start) for thin, offset in zip(thinnings, offsets, strict=True)]
        kinds = [offset.dtype.type(weight) for offset, weight in zip(offsets, weights, strict=True)]
        weighted = [offset * weight for offset, weight in zip(offsets, kinds, strict=True)]
        total, divisor = _elected(weighted, kinds) if elect else (sum_of(weighted), _divisor(weights))
        if normalize:
            total /= divisor
        yield part.base + total * total.dtype.type(scale)


def sum_of(arrays: Sequence[Array]) -> Array:
    """Their sum, in order."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total


def _divisor(weights: Sequence[float]) -> Any:
    total = sum(weights)
    return np.float32(total) if abs(total) >= _NO_WEIGHT else np.float32(1.0)


def _elected(weighted: Sequence[Array], weights: Sequence[Any]) -> tuple[Array, Array]:
    """Sum of the values that have the sign of the sum of all (of zero: positive), and of their weights."""
    positive = sum_of(weighted) >= 0
    total, divisor = np.zeros_like(weighted[0]), np.zeros_like(weighted[0])
    for array, weight in zip(weighted, weights, strict=True):
        agrees = np.where(positive, array > 0, array < 0)
        total += array * agrees
        divisor += agrees * weight
    divisor[divisor == 0] = 1
    return total, divisor


@dataclass(frozen=True)
class Trim:
    """Keeps values of a size above the threshold, and those of just that size up to a place."""

    threshold: float
    last: int

    def __call__(self, offset: Array, start: int) -> Array:
        return offset * self.mask(offset, start)

    def mask(self, offset: Array, start: int) -> Mask:
        """Of a stretch that begins at `start`."""
        size = np.abs(offset)
        found: Mask = size > self.threshold
        if self.last >= start:
            found |= (size == self.threshold) & (np.arange(start, start + size.size) <= self.last)
        return found


def trim(parts: Parts, index: int, density: float) -> Trim:
    """Keep the int(density * n) largest values of one task vector, at least one; of equal ones the first."""
    size = parts.size
    if density >= 1.0 or not size:
        return Trim(-1.0, size)
    if density <= 0.0:
        return Trim(np.inf, -1)
    kept = max(1, int(density * size))
    sizes = np.empty(size, parts.dtype)
    for part in parts.of(index):
        sizes[part.start : part.start + part.tensors[0].size] = np.abs(part.offsets()[0])
    sizes.partition(size - kept)
    threshold = sizes[size - kept]
    missing = kept - int(np.count_nonzero(sizes[size - kept :] > threshold))
    if not (sizes[: size - kept] == threshold).any():
        return Trim(float(threshold), size)
    return Trim(float(threshold), _place_of(parts.of(index), threshold, missing))


def _place_of(parts: Parts, threshold: float, count: int) -> int:
    """The place of the count-th value of just that size."""
    for part in parts:
        found = np.flatnonzero(np.abs(part.offsets()[0]) == threshold)
        if len(found) >= count:
            return part.start + int(found[count - 1])
        count -= len(found)
    return parts.size


@dataclass(frozen=True)
class Drop:
    """Keeps each value with probability `density`, multiplied by `factor`. key: 128 bits that the draws come from"""

    key: int
    density: float
    factor: float = 1.0

    def __call__(self, offset: Array, start: int) -> Array:
        kept: Array = offset * self.mask(start, offset.size) * offset.dtype.type(self.factor)
        return kept

    def mask(self, start: int, count: int) -> Mask:
        """Of the values from `start` on: the same however the tensor is cut."""
        before = start % _PER_COUNTER
        draws = np.random.Generator(np.random.Philox(key=self.key, counter=start // _PER_COUNTER))
        return (draws.random(before + count, dtype=np.float32) < self.density)[before:]


def drop(parts: Parts, index: int, density: float, key: int, rescale: str | float = L1) -> Drop | Trim:
    """Keep random values of one task vector.

    rescale: "l1" so that its sum of sizes stays (mergekit's);  "density": by 1 / density, so that its mean stays
    (the paper's);  "none";  a number q: by 1 / q (DARE-q)
    """
    if density >= 1.0:
        return Trim(-1.0, parts.size)
    plain = Drop(key, density)
    return Drop(key, density, _factor(parts.of(index), plain, rescale))


def _factor(parts: Parts, plain: Drop, rescale: str | float) -> float:
    if rescale == NONE or plain.density <= 0.0:
        return 1.0
    if rescale == DENSITY:
        return 1.0 / plain.density
    if not isinstance(rescale, str):
        return 1.0 / rescale
    before = after = 0.0
    for part in parts:
        size = np.abs(part.offsets()[0])
        before += float(size.sum(dtype=np.float64))
        after += float(size[plain.mask(part.start, size.size)].sum(dtype=np.float64))
    return 1.0 if min(before, after) < _NO_LENGTH else before / after


def draw_key(seed: int, name: str, index: int) -> int:
    """The key of the draws for one tensor of one model."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {index} {name}".encode(), digest_size=16).digest(), "little")
