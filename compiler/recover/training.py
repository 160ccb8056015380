"""Learning for so many seconds: AdamW, with a rate that falls as a cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lwc.compiler.recover.learned import Learned

_DECAY = 1e-2
_SHARE_OF_LOOKING = 0.15  # of the time, at most
_LARGEST_STEP = 1.0  # norm of a gradient

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Shuffle:
    """Losses of the batches over and over, each way through in another order."""

    generator: torch.Generator

    def __call__(self, losses: Sequence[Loss]) -> Iterator[Loss]:
        while True:
            for k in torch.randperm(len(losses), generator=self.generator).tolist():
                yield losses[k]


def learn(
    learned: Learned,
    losses: Sequence[Loss],
    shuffle: Shuffle,
    seconds: float,
    rate: float,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Steps until the time is over, the rate falling with it to zero.

    losses: of each batch, computed when its turn comes
    look: called now and then, for a small share of the time, and at the end
    """
    optimizer = torch.optim.AdamW(learned.parameters(), rate, weight_decay=_DECAY)
    start = looked = time.perf_counter()
    cost = 0.0
    for loss in shuffle(losses):
        now = time.perf_counter()
        if now - start >= seconds:
            break
        if now - looked > cost / _SHARE_OF_LOOKING:
            look()
            looked = time.perf_counter()
            cost = looked - now
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (now - start) / seconds))
        _step(optimizer, loss())
    look()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step, left out where there is no gradient, or where it is no number."""
    if not loss.requires_grad:
        return
    optimizer.zero_grad()
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(parameters, _LARGEST_STEP)
    if bool(torch.isfinite(norm)):
        optimizer.step()
