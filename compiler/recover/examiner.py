"""Held-out samples: which weights are the best so far, and how good they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lwc.compiler.metrics import Metric
from lwc.compiler.recover.lessons import Batch
from lwc.compiler.recover.losses import Distance
from lwc.compiler.recover.program import Program


class Examiner:
    """Keeps the best weights that were offered.

    best: weights that learn, by name;  loss: distance of their answers from the teacher's on the held-out batches
    metric: a mean over samples, that of `fidelity`
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Tensor],
        batches: Sequence[Batch],
        scores: Collection[str],
        metric: Metric,
    ) -> None:
        self._program, self._batches, self._metric = program, batches, metric
        self.distance = Distance([batch.answers for batch in batches], scores)
        self.best = dict(weights)
        self.loss = self._loss_of(self.best)

    def offer(self, weights: Mapping[str, Tensor]) -> bool:
        """Keep these weights if they are better."""
        loss = self._loss_of(weights)
        if not loss < self.loss:
            return False
        self.best, self.loss = dict(weights), loss
        return True

    def fidelity(self) -> float:
        """The metric of the best weights."""
        assert self._metric.score is not None
        total = 0.0
        for got, batch in self._answers(self.best, self._program.outputs):
            want = {name: batch.answers[name].numpy() for name in got}
            total += batch.count * self._metric.score({name: x.numpy() for name, x in got.items()}, {}, want)
        return total / self._count

    def _loss_of(self, weights: Mapping[str, Tensor]) -> float:
        found = self._answers(weights, self.distance.names)
        return sum(float(self.distance(got, batch.answers)) * batch.count for got, batch in found) / self._count

    def _answers(
        self, weights: Mapping[str, Tensor], names: Sequence[str]
    ) -> Iterator[tuple[dict[str, Tensor], Batch]]:
        for batch in self._batches:
            with torch.no_grad():
                yield self._program.run(batch.inputs, names, weights), batch

    @property
    def _count(self) -> int:
        return sum(batch.count for batch in self._batches)
