"""How far the student's answers are from the teacher's, as numbers that can be differentiated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

TEMPERATURE = 2.0  # of scores: what the teacher thinks of the other classes counts more
_LEAST = 1e-7
_SUM_OF_PROBABILITIES = 1e-2


class Distance:
    """Sum over values: of scores the divergence KL(teacher || student), of others the squared error by the power.

    scores: names of values that are scores over classes, along the last axis
    powers: mean squares of the others, about their mean, over the answers of some batches
    """

    def __init__(self, answers: Iterable[Mapping[str, Tensor]], scores: Collection[str] = ()) -> None:
        self._probabilities: dict[str, bool] = {}
        sums: dict[str, list[float]] = {}
        for answer in answers:
            for name, want in answer.items():
                if name in scores:
                    self._probabilities[name] = self._probabilities.get(name, True) and _are_probabilities(want)
                elif want.is_floating_point():
                    sums.setdefault(name, []).append(_power(want))
        self._powers = {name: max(sum(found) / len(found), 1e-12) for name, found in sums.items()}

    @property
    def names(self) -> list[str]:
        """The values that are compared."""
        return [*self._probabilities, *self._powers]

    def __call__(self, got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros(())
        for name, probabilities in self._probabilities.items():
            total = total + _divergence(got[name], want[name], probabilities)
        for name, power in self._powers.items():
            total = total + _squared(got[name], want[name]) / power
        return total


def _divergence(got: Tensor, want: Tensor, probabilities: bool) -> Tensor:
    """Hinton, Vinyals, Dean 2015: of tempered scores, times the square of the temperature."""
    if probabilities:
        got, want = got.clamp_min(_LEAST).log(), want.clamp_min(_LEAST).log()
    theirs = torch.log_softmax(want / TEMPERATURE, -1)
    mine = torch.log_softmax(got / TEMPERATURE, -1)
    return (theirs.exp() * (theirs - mine)).sum(-1).mean() * TEMPERATURE**2


def _squared(got: Tensor, want: Tensor) -> Tensor:
    finite = torch.isfinite(want)
    if bool(finite.all()):
        return (got - want).square().mean()
    return (got[finite] - want[finite]).square().mean() if bool(finite.any()) else got.new_zeros(())


def _power(want: Tensor) -> float:
    numbers = want[torch.isfinite(want)]
    if numbers.numel() < 2:
        return float(numbers.square().sum())
    return float((numbers - numbers.mean()).square().mean())


def _are_probabilities(x: Tensor) -> bool:
    return bool((x >= 0).all()) and bool(((x.sum(-1) - 1).abs() < _SUM_OF_PROBABILITIES).all())
