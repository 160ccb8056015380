"""A weight as the product of two thin ones: W ~ A B of a rank r, where r (in + out) < in * out.

    W H W^T = U diag(d) U^T        A = U_r        B = U_r^T W        loss = sum of the other d

is the least tr((W - A B) H (W - A B)^T) of that rank (Eckart & Young 1936): LoRD (Kaushal et al. 2023) with the
spectrum of the outputs instead of the weight's own. Needs no inverse of H, which may be singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.moments import Floats, usable


@dataclass(frozen=True, eq=False)
class Spectrum:
    """left: U [out, n], n = min(out, in);  losses: what a rank of 0 .. n leaves, [n + 1], falling to 0"""

    weight: Floats
    left: Floats
    losses: Floats

    @staticmethod
    def of(weight: NDArray[np.floating], moments: Floats | None = None) -> Spectrum:
        """weight: [out, in];  moments: [in, in], or the identity where there are none or nothing to solve with."""
        exact = np.asarray(weight, np.float64)
        basis, thin = np.linalg.qr(exact) if exact.shape[0] > exact.shape[1] else (np.eye(len(exact)), exact)
        seen = thin if moments is None or not usable(moments) else thin @ moments
        outputs = seen @ thin.T
        values, vectors = np.linalg.eigh((outputs + outputs.T) / 2.0)
        tails = np.cumsum(np.maximum(values, 0.0))[::-1]
        return Spectrum(exact, basis @ vectors[:, ::-1], np.append(tails, 0.0))

    def factors(self, rank: int) -> tuple[Floats, Floats]:
        """A [out, rank] of orthonormal columns and B [rank, in].  rank: at most n"""
        left = self.left[:, :rank]
        return left, left.T @ self.weight

    def rank_within(self, share: float) -> int:
        """The least rank that leaves at most this share of what leaving out the layer would."""
        return int(np.argmax(self.losses <= share * self.losses[0]))


def largest_rank(outputs: int, inputs: int) -> int:
    """The largest rank whose two factors have fewer weights than the matrix; 0 when none has."""
    return max(0, (outputs * inputs - 1) // (outputs + inputs))


def saved_share(outputs: int, inputs: int, rank: int) -> float:
    """The share of a matrix's weights that its factors of this rank do without."""
    return 1.0 - rank / outputs - rank / inputs
