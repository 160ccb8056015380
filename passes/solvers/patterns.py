"""Patterns of zeros in a weight [out, in]: N of M inputs of each output are kept, or whole blocks of R x C are.

N:M        of every M adjacent inputs, each output keeps N (Mishra et al. 2021); inputs beyond the last M count as M
block:RxC  of the blocks of R outputs x C inputs, a share is kept, each band of R outputs as many; blocks at the edges
           are cut
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadPlan

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
_FORMS = re.compile(r"(?:(\d+):(\d+)|block:(\d+)x(\d+))\Z")


@dataclass(frozen=True)
class NofM:
    """kept of among adjacent inputs"""

    kept: int
    among: int

    def select(self, scores: Floats) -> Mask:
        """Where weights stay, [out, in]: those of the highest scores; of equals the first."""
        outputs, inputs = scores.shape
        groups = np.full((outputs, -(-inputs // self.among) * self.among), -np.inf)
        groups[:, :inputs] = scores
        order = np.argsort(-groups.reshape(outputs, -1, self.among), axis=2, kind="stable")
        mask = np.zeros(order.shape, bool)
        np.put_along_axis(mask, order[:, :, : self.kept], True, axis=2)
        return mask.reshape(outputs, -1)[:, :inputs]


@dataclass(frozen=True)
class Blocks:
    """rows x columns weights stay or leave together;  density: share of a band's blocks that stays, at least one"""

    rows: int
    columns: int
    density: float

    def grid(self, weight: Floats) -> Floats:
        """[bands, rows, across, columns], padded with zeros.  weight: [out, in]"""
        bands, across = -(-weight.shape[0] // self.rows), -(-weight.shape[1] // self.columns)
        whole = np.zeros((bands * self.rows, across * self.columns))
        whole[: weight.shape[0], : weight.shape[1]] = weight
        return whole.reshape(bands, self.rows, across, self.columns)

    def spread(self, chosen: Mask, shape: tuple[int, ...]) -> Mask:
        """[out, in] of a choice of blocks [bands, across]."""
        whole = np.repeat(np.repeat(chosen, self.rows, axis=0), self.columns, axis=1)
        return whole[: shape[0], : shape[1]]

    def select(self, scores: Floats) -> Mask:
        """Where weights stay, [out, in]: blocks of the highest sums of scores; of equals the first."""
        sums = self.grid(scores).sum(axis=(1, 3))
        count = max(1, math.floor(self.density * sums.shape[1] + 0.5))
        chosen = np.zeros(sums.shape, bool)
        np.put_along_axis(chosen, np.argsort(-sums, axis=1, kind="stable")[:, :count], True, axis=1)
        return self.spread(chosen, scores.shape)


Pattern = NofM | Blocks


def pattern_of(text: str, density: float = 0.5) -> Pattern:
    """'2:4', 'block:4x1' ...  density: of blocks. Raises BadPlan."""
    found = _FORMS.match(text)
    numbers = [int(number) for number in found.groups() if number] if found else []
    if found and found[1] and 0 < numbers[0] < numbers[1]:
        return NofM(numbers[0], numbers[1])
    if found and found[3] and min(numbers) > 0 and 0.0 < density <= 1.0:
        return Blocks(numbers[0], numbers[1], density)
    raise BadPlan(
        f"There is no pattern '{text}' of density {density:g}.",
        "Use N:M with 0 < N < M, or block:RxC and a density above 0 and at most 1.",
    )
