"""Block by block: each learns to make of what the blocks before it make now what the teacher makes at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lwc.compiler.recover.blocks import Cut
from lwc.compiler.recover.examiner import Examiner
from lwc.compiler.recover.learned import Learned
from lwc.compiler.recover.lessons import Batch, Lessons
from lwc.compiler.recover.losses import Distance
from lwc.compiler.recover.program import Program
from lwc.compiler.recover.roles import Role
from lwc.compiler.recover.settings import Settings
from lwc.compiler.recover.training import Shuffle, learn

Values = Mapping[str, Tensor]
# (value, axis) -> which of the teacher's places the student still has.
Keep = Mapping[tuple[str, int], NDArray[np.bool_]]


@dataclass(frozen=True)
class BlockStage:
    """What blocks are taught with."""

    program: Program
    roles: Mapping[str, Role]
    lessons: Lessons
    examiner: Examiner
    keep: Keep
    generator: torch.Generator
    settings: Settings

    def teach(
        self, cuts: Sequence[Cut], batches: Sequence[Batch], seconds: float, each: Callable[[int, int], None]
    ) -> None:
        """Blocks in turn, as far as the time goes; the examiner is offered what comes of it after each.

        each: called before each block with its number and how many there are
        """
        until = time.perf_counter() + seconds
        cuts = self._alike(cuts, batches[0])
        if not cuts:
            return
        batches = batches[: self._most_batches(cuts, batches[0])]
        given: list[Values] = [dict(batch.inputs) for batch in batches]
        weights = dict(self.examiner.best)
        taught: set[str] = set()
        for k, cut in enumerate([*cuts, None]):
            if time.perf_counter() > until:
                break
            each(k, len(cuts) + 1)
            answers, distance, made = self._lesson(cut, batches)
            names = (self.program.reads(given[0], made) & set(self.roles)) - taught
            taught |= names
            share = (until - time.perf_counter()) / (len(cuts) + 1 - k)
            weights |= self._block(names, weights, given, answers, distance, share)
            self.examiner.offer(weights)
            if cut is not None:
                given = [self._onwards(batch, known, cut, weights) for batch, known in zip(batches, given, strict=True)]

    def _lesson(self, cut: Cut | None, batches: Sequence[Batch]) -> tuple[list[Values], Distance, tuple[str, ...]]:
        """What the block has to answer, how far answers are from it, and all that it makes."""
        if cut is None:
            return [batch.answers for batch in batches], self.examiner.distance, tuple(self.examiner.distance.names)
        answers: list[Values] = [kept(found, self.keep) for found in self.lessons.values(cut.taught, batches)]
        return answers, Distance(answers), cut.taught

    def _block(
        self,
        names: set[str],
        weights: Values,
        given: Sequence[Values],
        answers: Sequence[Values],
        distance: Distance,
        seconds: float,
    ) -> dict[str, Tensor]:
        if not names:
            return {}
        learned = Learned(weights, {name: self.roles[name] for name in names}, self.settings.rank, self.generator)

        def loss(k: int) -> Tensor:
            return distance(self.program.run(given[k], distance.names, {**weights, **learned.values()}), answers[k])

        losses = [partial(loss, k) for k in range(len(given))]
        learn(learned, losses, Shuffle(self.generator), seconds, self.settings.rate)
        return learned.merged()

    def _onwards(self, batch: Batch, known: Values, cut: Cut, weights: Values) -> Values:
        """What the next block is given: the inputs, and what the blocks so far make."""
        with torch.no_grad():
            return {**batch.inputs, **self.program.run(known, cut.alive, weights)}

    def _alike(self, cuts: Sequence[Cut], batch: Batch) -> list[Cut]:
        """Cuts whose values have the same shapes in student and teacher."""
        names = sorted({name for cut in cuts for name in cut.taught})
        if not names:
            return []
        with torch.no_grad():
            mine = self.program.run(batch.inputs, names)
        theirs = kept(next(self.lessons.values(names, [batch])), self.keep)
        alike = {name for name in names if mine[name].shape == theirs[name].shape}
        return [cut for cut in cuts if alike.issuperset(cut.taught)]

    def _most_batches(self, cuts: Sequence[Cut], batch: Batch) -> int:
        """How many batches may be held with their values at the widest cut: given, made, and wanted."""
        names = sorted({name for cut in cuts for name in cut.alive})
        with torch.no_grad():
            values = self.program.run(batch.inputs, names)
        widest: int = max(sum(values[name].nbytes for name in cut.alive) for cut in cuts)
        return max(1, self.settings.most_bytes // (3 * widest + 1))


def kept(values: Values, keep: Keep) -> dict[str, Tensor]:
    """Values without the places that the student lost."""
    found = dict(values)
    for (name, axis), places in keep.items():
        if name in found and found[name].ndim > axis and found[name].shape[axis] == len(places):
            found[name] = found[name].index_select(axis, torch.from_numpy(np.flatnonzero(places)))
    return found
