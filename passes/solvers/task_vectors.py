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
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.parts import Array, Part, Parts

Mask = NDArray[np.bool_]

L1, DENSITY, NONE = "l1", "density", "none"
RESCALES = (L1, DENSITY, NONE)
_SAMPLE = 1 << 14  # values whose sizes say about how large the smallest is that stays
_DEVIATIONS = 6.0
_BYTE = 256
_PER_COUNTER = 8  # float32 numbers that Philox draws of one value of its counter
_NO_LENGTH = 1e-7
_NO_WEIGHT = 1e-8


class Thinning(Protocol):
    """Which values of one task vector stay, and what they are multiplied by."""

    def __call__(self, offset: Array, start: int) -> None:
        """Thin a stretch of the task vector in place. start: the place of its first value"""
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

    def added(part: Part) -> Array:
        assert part.base is not None
        offsets = part.offsets()
        kinds = [offset.dtype.type(weight) for offset, weight in zip(offsets, weights, strict=True)]
        for k, offset in enumerate(offsets):
            if thinnings is not None:
                thinnings[k](offset, part.start)
            if weights[k] != 1.0:
                offset *= kinds[k]
        total, divisor = _elected(offsets, kinds) if elect else (sum_of(offsets), _divisor(weights))
        if normalize:
            total /= divisor
        if scale != 1.0:
            total *= total.dtype.type(scale)
        total += part.base
        return total

    return parts.each(added)


def sum_of(arrays: Sequence[Array]) -> Array:
    """Their sum, in order."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total


def _divisor(weights: Sequence[float]) -> Any:
    total = sum(weights)
    return np.float32(total) if abs(total) >= _NO_WEIGHT else np.float32(1.0)


def _elected(weighted: Sequence[Array], weights: Sequence[Any]) -> tuple[Array, NDArray[Any]]:
    """Sum of the values that have the sign of the sum of all (of zero: positive), and of their weights.

    The others become zero. By bits: np.where takes 10 times as long where signs are random.
    """
    total = sum_of(weighted)
    positive = total >= 0
    negative = ~positive
    total.fill(0)
    counted = len(set(weights)) == 1 and len(weights) < _BYTE
    divisor = np.zeros(total.shape, np.uint8 if counted else total.dtype)
    for array, weight in zip(weighted, weights, strict=True):
        agrees, below = array > 0, array < 0
        agrees &= positive
        below &= negative
        agrees |= below
        array *= agrees
        total += array
        divisor += agrees if counted else agrees * weight
    divisor += divisor == 0
    return total, divisor * weights[0] if counted and weights[0] != 1 else divisor


@dataclass(frozen=True)
class Trim:
    """Keeps values of a size above the threshold, and those of just that size up to a place."""

    threshold: float
    last: int

    def __call__(self, offset: Array, start: int) -> None:
        offset *= self.mask(offset, start)

    def mask(self, offset: Array, start: int) -> Mask:
        """Of a stretch that begins at `start`."""
        if self.last >= start + offset.size - 1:
            found: Mask = offset >= self.threshold
            found |= offset <= -self.threshold
            return found
        found = offset > self.threshold
        found |= offset < -self.threshold
        if self.last >= start:
            found |= (np.abs(offset) == self.threshold) & (np.arange(start, start + offset.size) <= self.last)
        return found


def trim(parts: Parts, index: int, density: float) -> Trim:
    """Keep the int(density * n) largest values of one task vector, at least one; of equal ones the first."""
    return trims(parts.of(index), [density])[0]


def trims(parts: Parts, densities: Sequence[float]) -> list[Trim]:
    """The same for all task vectors, each with its density, in one walk over the tensors."""
    found = {k: Trim(-1.0, parts.size) for k, density in enumerate(densities) if density >= 1.0 or not parts.size}
    found |= {k: Trim(np.inf, -1) for k, density in enumerate(densities) if density <= 0.0}
    kept = {k: max(1, int(density * parts.size)) for k, density in enumerate(densities) if k not in found}
    brackets = {k: _bracket(parts, k, count) for k, count in kept.items()}
    candidates = _candidates(parts, brackets) if kept else {}
    for k, count in kept.items():
        above, near = candidates[k]
        if not above < count <= above + near.size:
            above, near = _candidates(parts, {k: (0.0, np.inf)})[k]
        found[k] = _trim(parts.of(k), near, count - above)
    return [found[k] for k in range(len(densities))]


def _trim(parts: Parts, near: Array, count: int) -> Trim:
    """Keep all values as large as the count-th largest of these sizes, as far as there are so many to keep."""
    near.partition(near.size - count)
    threshold = near[near.size - count]
    equal, larger = (int(np.count_nonzero(test)) for test in (near == threshold, near > threshold))
    missing = count - larger
    return Trim(float(threshold), parts.size if missing == equal else _place_of(parts, threshold, missing))


def _bracket(parts: Parts, index: int, kept: int) -> tuple[float, float]:
    """Two sizes between which the smallest that stays almost surely is, from a sample; all sizes where there are few.

    The rank of a value in a sample of n deviates by sqrt(p (1 - p) n).
    """
    step = parts.size // _SAMPLE
    if step < 2:
        return 0.0, np.inf
    sizes = np.abs(parts.sample(index, step))
    last, share = sizes.size - 1, 1.0 - kept / parts.size
    place, reach = share * sizes.size, 1.0 + _DEVIATIONS * np.sqrt(share * (1.0 - share) * sizes.size)
    low, high = max(int(place - reach), 0), min(int(place + reach), last)
    sizes.partition([low, high])
    return float(sizes[low]) if low else 0.0, float(sizes[high]) if high < last else np.inf


def _candidates(parts: Parts, brackets: Mapping[int, tuple[float, float]]) -> dict[int, tuple[int, Array]]:
    """How many sizes of each of these task vectors are above its bracket, and those in it."""

    def look(part: Part) -> list[tuple[int, Array]]:
        offsets = part.offsets()
        return [_within(np.abs(offsets[k], out=offsets[k]), *bracket) for k, bracket in brackets.items()]

    counts, near = zip(*(zip(*each, strict=True) for each in parts.each(look)), strict=True)
    sums = (sum(each) for each in zip(*counts, strict=True))
    joined = (np.concatenate(each) for each in zip(*near, strict=True))
    return dict(zip(brackets, zip(sums, joined, strict=True), strict=True))


def _within(size: Array, low: float, high: float) -> tuple[int, Array]:
    """How many sizes are larger, and those from `low` to `high`: NaN, the largest, is in neither and stays."""
    above = size > high
    others = size < low
    others |= above
    return int(np.count_nonzero(above)), size[~others]


def _sizes(part: Part) -> Array:
    (offset,) = part.offsets()
    return np.abs(offset, out=offset)


def _place_of(parts: Parts, threshold: float, count: int) -> int:
    """The place of the count-th value of just that size."""
    for part in parts:
        found = np.flatnonzero(_sizes(part) == threshold)
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

    def __call__(self, offset: Array, start: int) -> None:
        offset *= self.mask(start, offset.size)
        offset *= offset.dtype.type(self.factor)

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

    def sums(part: Part) -> tuple[float, float]:
        size = _sizes(part)
        kept = size * plain.mask(part.start, size.size)
        return float(size.sum(dtype=np.float64)), float(kept.sum(dtype=np.float64))

    before, after = (math.fsum(each) for each in zip(*parts.each(sums), strict=True))
    return 1.0 if min(before, after) < _NO_LENGTH else before / after


def draw_key(seed: int, name: str, index: int) -> int:
    """The key of the draws for one tensor of one model."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {index} {name}".encode(), digest_size=16).digest(), "little")
