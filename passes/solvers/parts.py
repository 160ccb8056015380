"""The same tensor of several models, stretch by stretch: what merging looks at, whatever the size of the tensor.

Methods go over the parts as often as they need (sums first, then the result) and yield the result part by part, in
float32, or float64 where the tensors are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

STRETCH = 1 << 17  # values: a part of each of several models stays in a processor's cache


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
    """One tensor of every model; iterating yields its stretches, copied, as often as asked.

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
        flat = [tensor.reshape(-1) for tensor in self.tensors]
        base = None if self.base is None else self.base.reshape(-1)
        width = sum(tensor.itemsize for tensor in flat) + (0 if base is None else base.itemsize)
        for start in range(0, self.size, self.stretch):
            span = slice(start, start + self.stretch)
            copies = tuple(tensor[span].astype(self.dtype) for tensor in flat)
            yield Part(start, copies, None if base is None else base[span].astype(self.dtype))
            self.read(width * len(copies[0]))

    def of(self, index: int) -> Parts:
        """The parts of one model, beside the base."""
        return replace(self, tensors=self.tensors[index : index + 1])


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
