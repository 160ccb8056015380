"""Streaming accumulators behind TensorStats and LayerStats.gram: constant memory, exact merging.

Moments of a part with n values, mean m and squared deviations s merge as (Chan, Golub & LeVeque 1983)

    d = m_b - m_a      m = m_a + d * n_b / n      s = s_a + s_b + d^2 * n_a * n_b / n

Histograms live on grids of width 2^e that pass through zero: bin k of width 2w is bins 2k and 2k + 1 of width w,
so widening merges pairs, and the result depends on the values alone, not on their order or grouping. (But for
negative values 2^149 times smaller than a bin: divided by its width they vanish, and may count as zero.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.stats import TensorStats

Array = NDArray[Any]

# Bins at most, between the least and the largest value; at least half as many are between these and zero.
BINS = 2048
# Widths below 2^-120 would overflow float32 when values are divided by them.
_LEAST_EXPONENT = -120
# Values per step: its buffers stay in a core's cache (measured: 3.5 ns a value at 2^16, 4.4 at 2^13 and 2^18).
_CHUNK = 1 << 16
# Squares of values outside this leave float32.
_SAFE_AMPLITUDE = (1e-12, 1e15)
# A Gram matrix of more inputs than this is not kept: 4608 = 512 channels x 3 x 3, 170 MB.
GRAM_FEATURES = 4608
# Bytes that one accumulator of each kind takes.
HISTOGRAM_BYTES = 2 * BINS * 8


def is_float(dtype: np.dtype[Any]) -> bool:
    """True for IEEE floats and for bfloat16 and the float8 types of ml_dtypes."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def working_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that values are counted in: their own, float32 at least."""
    return dtype if dtype.kind == "f" and dtype.itemsize >= 4 else np.dtype(np.float32)


@dataclass
class GridHistogram:
    """Counts on the grid k * 2^exponent <= v < (k + 1) * 2^exponent, -BINS <= k < BINS."""

    exponent: int = _LEAST_EXPONENT
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))

    def cover(self, low: float, high: float) -> None:
        """Widen the bins until values from low <= 0 to high >= 0 span at most BINS of them."""
        needed = max(self.exponent, _exponent_for(low, high))
        if not self.counts.any():
            self.exponent = needed
        while self.exponent < needed:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts[:] = 0
            self.counts[BINS // 2 : BINS + BINS // 2] = merged
            self.exponent += 1

    def add(self, values: Array, buffer: Array, codes: NDArray[np.intp]) -> None:
        """Count values that `cover` allows; buffer (of their type) and codes are as long, and are overwritten."""
        np.multiply(values, values.dtype.type(2.0**-self.exponent), out=buffer)
        np.floor(buffer, out=buffer)
        buffer += BINS
        np.copyto(codes, buffer, casting="unsafe")
        self.counts += np.bincount(codes, minlength=2 * BINS)

    def trimmed(self, low: float, high: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts and edges of the bins from that of `low` to that of `high`."""
        width = 2.0**self.exponent
        first, last = math.floor(low / width), math.floor(high / width)
        edges = np.arange(first, last + 2, dtype=np.float64) * width
        return self.counts[first + BINS : last + BINS + 1].copy(), edges


def _exponent_for(low: float, high: float) -> int:
    if high == low:
        return _LEAST_EXPONENT
    exponent = max(math.frexp((high - low) / BINS)[1] - 1, _LEAST_EXPONENT)
    while math.floor(high / 2.0**exponent) - math.floor(low / 2.0**exponent) >= BINS:
        exponent += 1
    return exponent


class TensorAccumulator:
    """Everything TensorStats holds about one value.

    axis: keep per-channel moments along it (may count from the end)
    """

    def __init__(self, axis: int | None = None) -> None:
        self._axis = axis
        self._channels: _Channels | None = None
        self._count, self._zeros, self._nonfinite = 0, 0, 0
        self._minimum, self._maximum = math.inf, -math.inf
        self._mean, self._deviation = 0.0, 0.0
        self._histogram = GridHistogram()

    def update(self, values: Array) -> None:
        """Take in an array of any float type and shape."""
        if not values.size:
            return
        if self._axis is not None:
            self._update_channels(values)
        flat = values.reshape(-1)
        buffer = np.empty(min(_CHUNK, flat.size), working_type(values.dtype))
        codes = np.empty(len(buffer), np.intp)
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK].astype(buffer.dtype, copy=False)
            self._update_chunk(chunk, buffer[: chunk.size], codes[: chunk.size])

    def finish(self) -> TensorStats:
        """The statistics so far."""
        if not self._count:
            empty = np.zeros(1, np.int64), np.array([0.0, 1.0])
            return TensorStats(0, 0.0, 0.0, 0.0, 0.0, *empty, nonfinite=self._nonfinite)
        counts, edges = self._histogram.trimmed(self._minimum, self._maximum)
        channels = self._channels.finish() if self._channels is not None else {}
        return TensorStats(
            self._count, self._minimum, self._maximum, self._mean, self._deviation / self._count, counts, edges,
            zeros=self._zeros, nonfinite=self._nonfinite, **channels,
        )  # fmt: skip

    def _update_chunk(self, chunk: Array, part: Array, codes: NDArray[np.intp]) -> None:
        low, high = float(chunk.min()), float(chunk.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = chunk[np.isfinite(chunk)]
            self._nonfinite += chunk.size - finite.size
            if not finite.size:
                return
            chunk, low, high = finite, float(finite.min()), float(finite.max())
        self._minimum, self._maximum = min(self._minimum, low), max(self._maximum, high)
        self._histogram.cover(min(self._minimum, 0.0), max(self._maximum, 0.0))
        part, codes = part[: chunk.size], codes[: chunk.size]
        self._histogram.add(chunk, part, codes)
        self._zeros += int(np.count_nonzero(chunk == 0))
        if not _SAFE_AMPLITUDE[0] < max(-low, high) < _SAFE_AMPLITUDE[1]:
            chunk, part = chunk.astype(np.float64), np.empty(chunk.size)
        # The rounding of the center is taken back: sum (v - c)^2 - (sum (v - c))^2 / n, and c + sum (v - c) / n.
        center = chunk.dtype.type(chunk.sum() / chunk.size)
        np.subtract(chunk, center, out=part)
        shift = float(part.sum()) / chunk.size
        np.multiply(part, part, out=part)
        self._merge(chunk.size, float(center) + shift, float(part.sum()) - shift * shift * chunk.size)

    def _merge(self, count: int, mean: float, deviation: float) -> None:
        total = self._count + count
        delta = mean - self._mean
        self._mean += delta * count / total
        self._deviation += max(deviation, 0.0) + delta * delta * self._count * count / total
        self._count = total

    def _update_channels(self, values: Array) -> None:
        assert self._axis is not None
        if not -values.ndim <= self._axis < values.ndim:
            self._axis = self._channels = None
            return
        axis = self._axis % values.ndim
        if self._channels is None:
            self._channels = _Channels(axis, values.shape[axis])
        if (self._channels.axis, len(self._channels.total)) != (axis, values.shape[axis]):
            self._axis = self._channels = None  # a dynamic axis: there are no channels to tell apart
            return
        self._channels.update(values)


class _Channels:
    """Minimum, maximum, sum and sum of squares per channel; values that are not finite count as zero."""

    def __init__(self, axis: int, channels: int) -> None:
        self.axis = axis
        self.count = 0
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.total, self.square = np.zeros(channels), np.zeros(channels)

    def update(self, values: Array) -> None:
        channels = len(self.total)
        outer, inner = math.prod(values.shape[: self.axis]), math.prod(values.shape[self.axis + 1 :])
        blocks = values.reshape(outer, channels, inner)
        self.count += outer * inner
        rows = max(1, _CHUNK // (channels * inner))
        columns = max(1, _CHUNK // inner) if rows == 1 else channels
        for start in range(0, outer, rows):
            for first in range(0, channels, columns):
                part = blocks[start : start + rows, first : first + columns].astype(np.float64)
                if not np.isfinite(part).all():
                    part = np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
                chosen = slice(first, first + columns)
                self.low[chosen] = np.minimum(self.low[chosen], part.min((0, 2)))
                self.high[chosen] = np.maximum(self.high[chosen], part.max((0, 2)))
                self.total[chosen] += part.sum((0, 2))
                self.square[chosen] += np.square(part, out=part).sum((0, 2))

    def finish(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "channel_minimum": self.low,
            "channel_maximum": self.high,
            "channel_mean": self.total / self.count,
            "channel_square": self.square / self.count,
        }


class GramAccumulator:
    """E[x x^T] over rows: [in, in], or one matrix per group: [groups, in, in].

    Products of one part are float32 (float64 for extreme values), their sum is float64.
    """

    def __init__(self) -> None:
        self._total: NDArray[np.float64] | None = None
        self._rows = 0

    def update(self, rows: Array) -> None:
        """rows: [n, in] or [groups, n, in] floats; rows with values that are not finite are left out."""
        if rows.shape[-2] == 0:
            return
        finite = np.isfinite(rows).all(axis=-1)
        if not finite.all():
            rows = rows[..., finite if rows.ndim == 2 else finite.all(0), :]
        amplitude = float(np.abs(rows).max(initial=0.0))
        if amplitude and not _SAFE_AMPLITUDE[0] < amplitude < _SAFE_AMPLITUDE[1]:
            rows = rows.astype(np.float64)
        product = np.swapaxes(rows, -1, -2) @ rows
        if self._total is None:
            self._total = np.zeros(product.shape)
        self._total += product
        self._rows += rows.shape[-2]

    def finish(self) -> NDArray[np.float64] | None:
        """The mean, exactly symmetric; None when no rows came."""
        if self._total is None or not self._rows:
            return None
        gram: NDArray[np.float64] = (self._total + np.swapaxes(self._total, -1, -2)) / (2.0 * self._rows)
        return gram
