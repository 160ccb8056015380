"""The same tensor of several models, stretch by stretch: what merging looks at, whatever the size of the tensor.

Methods go over the parts as often as they need (sums first, then the result) and yield the result part by part, in
float32, or float64 where the tensors are float64.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.target import find_target

Array = NDArray[np.floating[Any]]
Found = TypeVar("Found")

STRETCH = 1 << 16  # values: a part of each of several models stays in a processor's cache
_TOGETHER = 4  # stretches in one task
_AHEAD = 2  # tasks for each processor to work on before the first is asked for


@dataclass(frozen=True, eq=False)
class Part:
    """One stretch, flat. start: the place of its first value;  tensors: of the models;  base: of what they began as"""

    start: int
    tensors: tuple[Array, ...]
    base: Array | None = None

    def offsets(self) -> list[Array]:
        """x_i - base: the stretch of the task vectors."""
        assert self.base is not None
        return [tensor - self.base for tensor in self.tensors]


def _nothing(read: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, eq=False)
class Parts:
    """One tensor of every model; iterating yields its stretches, as often as asked; they are not to be written to.

    tensors: of one shape, contiguous;  base: of the same shape, or None
    read: told how many bytes were read, so that pages of mapped files can be given back
    """

    tensors: tuple[NDArray[Any], ...]
    base: NDArray[Any] | None = None
    stretch: int = STRETCH
    read: Callable[[int], None] = field(default=_nothing)

    @property
    def size(self) -> int:
        return int(self.tensors[0].size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What to compute in."""
        return np.dtype(np.float64 if self.tensors[0].dtype == np.float64 else np.float32)

    def __iter__(self) -> Iterator[Part]:
        return self.each(lambda part: part)

    def each(self, work: Callable[[Part], Found]) -> Iterator[Found]:
        """What `work` makes of each stretch, in order; what overflows becomes infinite without a warning.

        All processors work: NumPy lets go of Python's lock.
        """
        width = sum(tensor.itemsize for tensor in self.tensors) + (0 if self.base is None else self.base.itemsize)
        starts = range(0, self.size, self.stretch)
        done = self._done(work, starts) if len(starts) < 2 else self._shared(work, starts)
        for start, found in zip(starts, done, strict=True):
            yield found
            self.read(width * min(self.stretch, self.size - start))

    def _shared(self, work: Callable[[Part], Found], starts: Sequence[int]) -> Iterator[Found]:
        pool, waiting = _pool(), deque[Future[list[Found]]]()
        try:
            for k in range(0, len(starts), _TOGETHER):
                waiting.append(pool.submit(self._done, work, starts[k : k + _TOGETHER]))
                if len(waiting) > _AHEAD * _workers():
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()

    def _done(self, work: Callable[[Part], Found], starts: Sequence[int]) -> list[Found]:
        with np.errstate(over="ignore", invalid="ignore"):
            return [work(self.part(start)) for start in starts]

    def part(self, start: int) -> Part:
        """The stretch that begins there."""
        span = slice(start, start + self.stretch)
        base = None if self.base is None else self._numbers(self.base, span)
        return Part(start, tuple(self._numbers(tensor, span) for tensor in self.tensors), base)

    def _numbers(self, tensor: NDArray[Any], span: slice) -> Array:
        """Copied where they lie across words: arithmetic is slow there."""
        taken = tensor.reshape(-1)[span]
        return taken.astype(self.dtype, copy=not taken.flags.aligned)

    def sample(self, index: int, step: int) -> Array:
        """Every so many values of one task vector."""
        assert self.base is not None
        x, y = (tensor.reshape(-1)[::step].astype(self.dtype) for tensor in (self.tensors[index], self.base))
        found: Array = x - y
        return found

    def of(self, index: int) -> Parts:
        """The parts of one model, beside the base."""
        return replace(self, tensors=self.tensors[index : index + 1])


@functools.lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_workers(), "stretches")


@functools.lru_cache(maxsize=1)
def _workers() -> int:
    return max(1, find_target("host").threads)


def whole(tensors: Sequence[NDArray[Any]], base: NDArray[Any] | None = None, stretch: int = STRETCH) -> Parts:
    """Parts of tensors in memory."""
    flat = tuple(np.ascontiguousarray(tensor) for tensor in tensors)
    return Parts(flat, None if base is None else np.ascontiguousarray(base), stretch)


def gathered(parts: Parts, merged: Iterator[Array], dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """The merged parts as one tensor. dtype: None takes that of the first model's"""
    found = np.empty(parts.size, dtype or parts.tensors[0].dtype)
    start = 0
    for part in merged:
        found[start : start + len(part)] = part
        start += len(part)
    return found.reshape(parts.tensors[0].shape)


def squares(x: Array, y: Array) -> float:
    """Sum of products, in float64."""
    return float(np.dot(x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)))
