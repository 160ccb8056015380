"""What the channels of a coupled group are worth: the layers that read them would lose as much.

A group of channels is read by layers y = W x; channel c is m columns of W, its block (the taps of a kernel, the heads'
dimensions). Scores of all readers of a group add up. Smaller is worth less. With C the moments of x (`Reader.of`):

    magnitude     sum of the squares of the weights that leave
    wanda         sum of |W_ij| sqrt(H_jj)                                             Sun et al. 2023
    fluctuation   sum of W_ij^2 Var(x_j)                                               FLAP (An et al. 2024)
    error         tr(W_c C_cc W_c^T): what the readers lose without c
    merging       the same after the best multiple of the most similar channel's block is put in its place
    explained     tr(W_c [P_cc]^-1 W_c^T), P = C^-1: what they lose once least squares has taken over

The last four are exact for one channel; `lwc.passes.solvers.elimination` follows what a removal does to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.moments import DAMPING, Floats, covariance, damped

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the channels.

    weight: [out, in];  positions: [channels, m], the columns that leave with each channel
    gram: H = E[x x^T] [in, in], or its diagonal [in] where more is not known
    moments: C, what errors of the weight cost, [in, in] or [in]: the covariance, or H where the bias stays
    """

    weight: Floats
    positions: Positions
    gram: Floats
    moments: Floats

    @staticmethod
    def of(
        weight: NDArray[np.floating], positions: Positions, gram: Floats, mean: Floats | None = None
    ) -> Reader:
        """mean: E[x] [in], if the bias is to take over what a removal does to the means."""
        exact = np.asarray(weight, np.float64)
        if gram.ndim == 2:
            return Reader(exact, positions, gram, covariance(gram, mean))
        return Reader(exact, positions, gram, gram if mean is None else np.maximum(gram - np.square(mean), 0.0))

    def alive(self) -> Floats:
        """The weight, zero where the input never varies: damping would put a price on it."""
        return self.weight * (_diagonal(self.moments) > 0.0)

    def squares(self) -> Floats:
        """M = W^T W between the columns of channels, [channels, m, channels, m]."""
        columns = self.weight[:, self.positions.reshape(-1)]
        shape = self.positions.shape
        return (columns.T @ columns).reshape(*shape, *shape)

    def blocks(self) -> Floats:
        """C between the columns of channels, [channels, m, channels, m]."""
        at = self.positions.reshape(-1)
        found = self.moments[np.ix_(at, at)] if self.moments.ndim == 2 else np.diag(self.moments[at])
        shape = self.positions.shape
        return found.reshape(*shape, *shape)


def joined(readers: Sequence[Reader]) -> list[Reader]:
    """Readers of one input (one Gram matrix, as statistics share it) as one reader with the outputs of all."""
    groups: dict[tuple[int, bytes], list[Reader]] = {}
    for reader in readers:
        groups.setdefault((id(reader.gram), reader.positions.tobytes()), []).append(reader)
    return [
        group[0] if len(group) == 1 else replace(group[0], weight=np.concatenate([r.weight for r in group]))
        for group in groups.values()
    ]


def magnitude(weights: Sequence[tuple[NDArray[np.floating], Positions]]) -> Floats:
    """[channels].  weights: all that a channel leaves with, each [n, any] and the rows [channels, m] of the channels"""
    norms = [np.square(np.asarray(w, np.float64)).sum(axis=1)[rows].sum(axis=1) for w, rows in weights]
    total: Floats = np.sum(norms, axis=0)
    return total


def wanda(readers: Sequence[Reader]) -> Floats:
    """[channels]"""
    return _summed(readers, lambda r: np.abs(r.weight).sum(axis=0) * np.sqrt(_diagonal(r.gram)))


def fluctuation(readers: Sequence[Reader]) -> Floats:
    """[channels]; of readers whose moments are no covariance, E[x^2] stands for the variance."""
    return _summed(readers, lambda r: np.square(r.weight).sum(axis=0) * _diagonal(r.moments))


def error(readers: Sequence[Reader]) -> Floats:
    """[channels]"""
    return np.diagonal(interactions(readers)).copy()


def interactions(readers: Sequence[Reader]) -> Floats:
    """N [channels, channels]: without the channels of a set, and nothing made up for, the readers lose their sum of N.

    N_cd = tr(W_c C_cd W_d^T) = sum over the columns of c and d of M C, elementwise.
    """
    total = np.zeros((len(readers[0].positions),) * 2)
    for reader in readers:
        if reader.moments.ndim == 1:
            total[np.diag_indices_from(total)] += fluctuation([reader])
        else:
            total += np.einsum("cmdn,cmdn->cd", reader.squares(), reader.blocks())
    return total


def merging(readers: Sequence[Reader]) -> Floats:
    """[channels]: the least over d of E ||W_c (x_c - a x_d)||^2, a the best number for this pair of channels.

    The same d and a for all readers, as channels are merged where they are made. One channel has none to merge with.
    """
    channels = len(readers[0].positions)
    own, shared, other = np.zeros(channels), np.zeros((channels, channels)), np.zeros((channels, channels))
    each = np.arange(channels)
    for reader in readers:
        squares = reader.squares()[each, :, each]  # [channels, m, m]
        blocks = reader.blocks()
        own += np.einsum("cmn,cmn->c", squares, blocks[each, :, each])
        shared += np.einsum("cmn,cmdn->cd", squares, blocks)
        other += np.einsum("cmn,dmn->cd", squares, blocks[each, :, each])
    explained = np.divide(np.square(shared), other, out=np.zeros_like(shared), where=other > 0.0)
    np.fill_diagonal(explained, 0.0)
    left: Floats = np.maximum(own - explained.max(axis=1, initial=0.0), 0.0)
    return left


def explained(readers: Sequence[Reader], damping: float = DAMPING) -> Floats:
    """[channels]; columns that are not any channel's take over too. Moments are damped as `damped` does."""
    total = np.zeros(len(readers[0].positions))
    for reader in joined(readers):
        if reader.moments.ndim == 1:
            total += fluctuation([reader])
            continue
        inverse = np.linalg.inv(damped(reader.moments, damping))
        at = reader.positions
        own = np.linalg.inv(inverse[at[:, :, None], at[:, None, :]])
        blocks = reader.alive()[:, at]  # [out, channels, m]
        total += np.einsum("ocm,cmn,ocn->c", blocks, own, blocks, optimize=True)
    return total


def _summed(readers: Sequence[Reader], score: Callable[[Reader], Floats]) -> Floats:
    found: Floats = np.sum([score(reader)[reader.positions].sum(axis=1) for reader in readers], axis=0)
    return found


def _diagonal(moments: Floats) -> Floats:
    found: Floats = np.maximum(np.diagonal(moments) if moments.ndim == 2 else moments, 0.0)
    return found
