"""What the student learns from: calibration inputs in batches, with what the teacher answers to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lwc.compiler.core.backend import Backend
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target
from lwc.compiler.recover.feeds import Feeds
from lwc.compiler.recover.operators.dtypes import to_torch

Array = NDArray[Any]

_HELD_OUT_SHARE = 5  # every so many-th sample
_SAME = 1e-3  # relative: a batch answers what its samples answer alone, summed in another order


@dataclass(frozen=True)
class Batch:
    """Inputs of some samples joined along their first axis, and the teacher's answers to them."""

    inputs: Mapping[str, Tensor]
    answers: Mapping[str, Tensor]
    count: int

    @property
    def bytes(self) -> int:
        return sum(int(x.nbytes) for x in (*self.inputs.values(), *self.answers.values()))


class Lessons:
    """Batches of calibration samples.

    teacher: the model whose answers count, run by a backend;  feeds: samples, labels beside inputs are ignored
    size: samples in a batch, where samples can be joined (see `_joins`);  most_bytes: held at once
    """

    def __init__(
        self, teacher: Model, backend: Backend, target: Target, feeds: Feeds, size: int, most_bytes: int
    ) -> None:
        self._teacher, self._backend, self._target, self._feeds = teacher, backend, target, feeds
        self._session = backend.session(teacher, target, lean=True)
        self._names = [port.name for port in self._session.inputs]
        self._most_bytes = most_bytes
        self._size = size if self._joins() else 1

    def split(self, generator: torch.Generator) -> tuple[list[int], list[int]]:
        """Numbers of the samples to learn from and of those held out; one sample is both."""
        order: list[int] = torch.randperm(len(self._feeds), generator=generator).tolist()
        held = max(1, len(order) // _HELD_OUT_SHARE)
        return order[held:] or order, order[:held]

    def batches(self, numbers: Sequence[int], generator: torch.Generator | None = None) -> list[Batch]:
        """Batches of these samples, shuffled by the generator; of as many as may be held at once."""
        found: list[Batch] = []
        room = self._most_bytes
        for group in self._groups(numbers, generator):
            batch = self._batch(group)
            room -= batch.bytes
            if found and room < 0:
                break
            found.append(batch)
        return found

    def values(self, names: Sequence[str], batches: Sequence[Batch]) -> Iterator[dict[str, Tensor]]:
        """What values inside the teacher are for each batch."""
        session = self._backend.session(self._teacher, self._target, names, lean=True)
        for batch in batches:
            answers = session.run({name: x.numpy() for name, x in batch.inputs.items()})
            yield {name: to_torch(answers[name]) for name in names}

    def _groups(self, numbers: Sequence[int], generator: torch.Generator | None) -> Iterator[list[int]]:
        """Samples of the same shapes, so many at a time."""
        order = list(numbers)
        if generator is not None:
            order = [order[k] for k in torch.randperm(len(order), generator=generator).tolist()]
        waiting: dict[object, list[int]] = {}
        for number in order:
            shapes = tuple(array.shape for array in self._inputs(number).values())
            group = waiting.setdefault(shapes, [])
            group.append(number)
            if len(group) == self._size:
                yield waiting.pop(shapes)
        yield from waiting.values()

    def _batch(self, group: Sequence[int]) -> Batch:
        samples = [self._inputs(number) for number in group]
        joined = {name: np.concatenate([sample[name] for sample in samples]) for name in self._names}
        if len(samples) == 1:
            joined = dict(samples[0])
        answers = self._session.run(joined)
        inputs = {name: to_torch(array) for name, array in joined.items()}
        return Batch(inputs, {name: to_torch(array) for name, array in answers.items()}, len(group))

    def _inputs(self, number: int) -> dict[str, Array]:
        sample = self._feeds[number]
        return {name: np.asarray(sample[name]) for name in self._names}

    def _joins(self) -> bool:
        """Whether samples that are joined along the first axis of every input answer as each does alone.

        They do not where a model folds its batch into other axes, or was exported for one sample.
        """
        if len(self._feeds) < 2:
            return False
        pair = [self._inputs(0), self._inputs(1)]
        shapes = [[array.shape for array in sample.values()] for sample in pair]
        if shapes[0] != shapes[1] or not all(shapes[0]):
            return False
        try:
            both = self._session.run({name: np.concatenate([sample[name] for sample in pair]) for name in self._names})
        except LwcError:
            return False
        alone = [self._session.run(sample) for sample in pair]
        return all(_consists(both[name], alone[0][name], alone[1][name]) for name in both)


def _consists(both: Array, one: Array, two: Array) -> bool:
    """Whether one array is two others side by side, along whatever axis."""
    if one.shape != two.shape or both.ndim != one.ndim or one.dtype.kind not in "fiub":
        return False
    for axis in range(both.ndim):
        joined = np.concatenate([one, two], axis).astype(np.float64)
        if joined.shape == both.shape:
            error = np.abs(both.astype(np.float64) - joined).max(initial=0.0)
            return bool(error <= _SAME * max(1.0, float(np.abs(joined).max(initial=0.0))))
    return False
