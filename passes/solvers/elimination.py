"""The order in which channels leave: one after another, always the one that its readers lose least by.

Backward elimination. Nothing is made up for: the loss of a removed set S is the sum of N over S x S (saliency), so
channel c adds N_cc + 2 sum over S of N_cd. With least squares, the loss of removing c is tr(W_c [P_cc]^-1 W_c^T), and
then, as the channels that are left take over (Frantar & Alistarh 2022, eq. 7; P is the inverse of what is left of C),

    Q = [P_cc]^-1 P_c:        P = P - P_:c Q        W = W - W_c Q        M = W^T W = (I - I_c Q)^T M (I - I_c Q)

M instead of W makes a step independent of how many outputs read: all of it takes O(in^3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.moments import DAMPING, Floats, damped
from lwc.passes.solvers.saliency import Reader, fluctuation, interactions, joined

# Columns that leave between two updates of what is left: large readers are bound by memory, and gain from more.
_COLUMNS = 64
# Of a reader's columns, that leave between two updates at most.
_SHARE = 64


@dataclass(frozen=True, eq=False)
class Elimination:
    """channels: as they leave, [channels];  losses: what readers have lost after each, [channels], not falling"""

    channels: NDArray[np.intp]
    losses: Floats


def by_score(scores: Floats) -> Elimination:
    """Channels by rising score; of equals the first. Losses are the sums of the scores."""
    order = np.argsort(scores, kind="stable")
    return Elimination(order, np.cumsum(scores[order]))


def eliminate(readers: Sequence[Reader]) -> Elimination:
    """The order where nothing is made up for (but the means, where the readers' moments are covariances)."""
    pairs = interactions(readers)
    increase = np.diagonal(pairs).copy()
    order, losses, total = np.empty(len(pairs), np.intp), np.empty(len(pairs)), 0.0
    for step in range(len(pairs)):
        channel = int(np.argmin(increase))
        total += float(increase[channel])
        order[step], losses[step] = channel, total
        increase += 2.0 * pairs[channel]
        increase[channel] = np.inf
    return Elimination(order, np.maximum.accumulate(losses))


def eliminate_refitted(
    readers: Sequence[Reader], damping: float = DAMPING, together: int | None = None
) -> Elimination:
    """The order where least squares takes over after each step.

    together: channels that leave between two updates; None: 1 for small groups, more for large ones. Scores of these
        are those before any of them left.
    """
    states = [_State.of(reader, damping) for reader in joined(readers)]
    channels, m = readers[0].positions.shape
    widest = max(reader.weight.shape[1] for reader in readers)
    together = together or max(1, min(_COLUMNS, widest // _SHARE) // m)
    left = np.arange(channels)
    order, losses, total = np.empty(channels, np.intp), np.empty(channels), 0.0
    while len(left):
        increase: Floats = np.sum([state.increases(left) for state in states], axis=0)
        picked = np.argsort(increase, kind="stable")[:together]
        leaving = left[picked]
        done = channels - len(left)
        order[done : done + len(leaving)] = leaving
        losses[done : done + len(leaving)] = total + np.cumsum(np.maximum(increase[picked], 0.0))
        total = max(total, total + sum(state.remove(leaving) for state in states))
        losses[done + len(leaving) - 1] = total
        left = np.delete(left, picked)
    return Elimination(order, np.maximum.accumulate(losses))


class _State:
    """P and M of one reader, over the columns that are left."""

    def __init__(self, inverse: Floats, squares: Floats, at: NDArray[np.int64]) -> None:
        self._inverse = inverse
        self._squares = squares
        self._at = at  # [channels, m] columns of both
        self._stays = np.ones(len(inverse), bool)

    @staticmethod
    def of(reader: Reader, damping: float) -> _State | _Independent:
        if reader.moments.ndim == 1:
            return _Independent(fluctuation([reader]))
        inverse = np.asarray(np.linalg.inv(damped(reader.moments, damping)), np.float64)
        weight = reader.alive()
        return _State((inverse + inverse.T) / 2.0, weight.T @ weight, reader.positions)

    def increases(self, left: NDArray[np.intp]) -> Floats:
        """[left]: what removing one channel costs."""
        at = self._at[left]
        rows, columns = at[:, :, None], at[:, None, :]
        own = np.linalg.inv(self._inverse[rows, columns])
        found: Floats = np.einsum("cmn,cmn->c", own, self._squares[rows, columns])
        return found

    def remove(self, leaving: NDArray[np.intp]) -> float:
        """Take channels out, the others take over; what it costs. Rows that are gone stay, as zeros, till half are."""
        gone = self._at[leaving].reshape(-1)
        own = np.linalg.inv(self._inverse[np.ix_(gone, gone)])
        among = self._squares[np.ix_(gone, gone)]
        across = self._inverse[gone]
        taken = own @ across
        self._inverse -= across.T @ taken
        half = (self._squares[gone] - (among @ taken) / 2.0).T @ taken
        self._squares -= half
        self._squares -= half.T
        self._stays[gone] = False
        if 2 * int(self._stays.sum()) <= len(self._stays):
            self._compact()
        return float(np.einsum("mn,mn->", own, among))

    def _compact(self) -> None:
        self._at = (np.cumsum(self._stays) - 1)[self._at]  # of channels that are gone: any column
        both = np.ix_(self._stays, self._stays)
        self._inverse, self._squares = self._inverse[both], self._squares[both]
        self._stays = np.ones(len(self._inverse), bool)


class _Independent:
    """A reader of which only variances are known: channels do not take over from each other."""

    def __init__(self, costs: Floats) -> None:
        self._costs = costs

    def increases(self, left: NDArray[np.intp]) -> Floats:
        return self._costs[left]

    def remove(self, leaving: NDArray[np.intp]) -> float:
        return float(self._costs[leaving].sum())
