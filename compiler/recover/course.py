"""The course of a recovery: block by block, then end to end, in rounds that begin from the best so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from lwc.compiler.core.progress import Progress
from lwc.compiler.recover.block_stage import BlockStage
from lwc.compiler.recover.blocks import Cut
from lwc.compiler.recover.learned import Learned
from lwc.compiler.recover.lessons import Batch
from lwc.compiler.recover.state import State
from lwc.compiler.recover.training import Shuffle, learn

SHARE_OF_BLOCKS = 0.3  # of the time
ROUNDS = (1, 2, 4)  # lengths of the rounds end to end, relative to each other
_LEAST_GAIN = 0.01  # of a round, in the held-out loss, for another one to be worth it


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute in so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Course:
    """Teaches until the time is over, or until more of it would not help.

    numbers: of the samples to learn from;  state: of earlier runs, kept up to date;  save: keeps it
    """

    blocks: BlockStage
    numbers: Sequence[int]
    progress: Progress
    state: State
    save: Callable[[], None]
    _spent_before: float = 0.0
    _start: float = field(default_factory=time.perf_counter)
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self._spent_before = self.state.seconds

    @property
    def spent(self) -> float:
        """Seconds, those of earlier runs included."""
        return self._spent_before + time.perf_counter() - self._start

    def run(self, cuts: Sequence[Cut], seconds: float) -> None:
        """Blocks, then rounds end to end with what is left of the seconds. Ctrl-C ends it as the time does."""
        try:
            left = SHARE_OF_BLOCKS * seconds - self.spent
            if cuts and left > 0:
                batches = self.blocks.lessons.batches(self.numbers, self.blocks.generator)
                self.blocks.teach(cuts, batches, left, lambda k, n: self._begin(f"block {k + 1} of {n}", left / n))
            self.state.finished = self._rounds(seconds)
        except KeyboardInterrupt:
            self.progress.note("Recovery was interrupted; the best so far is kept.")
        self._keep()

    def _rounds(self, seconds: float) -> bool:
        """Restarts with longer and longer cosines (SGDR: Loshchilov, Hutter 2017); whether the last gained too little.

        Each round merges its updates into the weights and begins with fresh ones, so their ranks add up.
        """
        left = seconds - self.spent
        for number, share in enumerate(ROUNDS):
            before = self.blocks.examiner.loss
            length = left * share / sum(ROUNDS)
            self._begin(f"end to end, round {number + 1} of {len(ROUNDS)}", length)
            if length <= 0:
                return False
            self._round(length)
            if self.blocks.examiner.loss > before * (1 - _LEAST_GAIN):
                return True
        return False

    def _round(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        batches = self.blocks.lessons.batches(self.numbers, self.blocks.generator)
        examiner, program, generator = self.blocks.examiner, self.blocks.program, self.blocks.generator
        learned = Learned(examiner.best, self.blocks.roles, self.blocks.settings.rank, generator)

        def loss(batch: Batch) -> Tensor:
            got = program.run(batch.inputs, examiner.distance.names, learned.values())
            return examiner.distance(got, batch.answers)

        def look() -> None:
            examiner.offer(learned.merged())
            self._advance()

        losses = [partial(loss, batch) for batch in batches]
        learn(learned, losses, Shuffle(generator), until - time.perf_counter(), self.blocks.settings.rate, look)

    def _begin(self, name: str, seconds: float) -> None:
        """Show what begins, and how good the best is; keep it."""
        self._keep()
        fidelity = self.blocks.examiner.fidelity()
        self.progress.stage(f"Recovering, {name} (fidelity {fidelity:.4f})", max(1, round(seconds)))
        self._shown = time.perf_counter()

    def _advance(self) -> None:
        steps = int(time.perf_counter() - self._shown)
        self.progress.advance(steps)
        self._shown += steps

    def _keep(self) -> None:
        self.state.seconds = self.spent
        self.state.weights = {name: tensor.numpy() for name, tensor in self.blocks.examiner.best.items()}
        self.save()
