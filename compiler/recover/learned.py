"""What changes while a model learns: each weight is what it was, plus an update in units of its own size.

    scale or bias       b' = b + |b| d
    weight              W' = M * (W (1 + g) + |W| B A)      g: one for each output;  A, B: of low rank, B from 0 on

|x| is the root mean square of x, so that one learning rate fits all. M is zero where W is: masks stay. The update of
low rank under a mask, merged at the end, is that of PERP (Zimmer, Andoni, Spiegel, Pokutta 2023, "MaskLoRA"), which
also trains scales and biases; the scales of outputs stand for those of normalizations that were folded into weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lwc.compiler.recover.roles import Role

_LEAST_UNIT = 0.02  # of scales and biases that are near zero


class Learned:
    """The weights that learn, from what they are now.

    weights: by name, those without a role stay as they are;  rank: of the updates
    """

    def __init__(
        self, weights: Mapping[str, Tensor], roles: Mapping[str, Role], rank: int, generator: torch.Generator
    ) -> None:
        self._parts = {
            name: _Whole(weights[name]) if role.whole else _LowRank(weights[name], role.axis, rank, generator)
            for name, role in roles.items()
        }

    def parameters(self) -> list[Tensor]:
        """What an optimizer moves."""
        return [tensor for part in self._parts.values() for tensor in part.parameters]

    def values(self) -> dict[str, Tensor]:
        """The weights as they are now, differentiable by the parameters."""
        return {name: part.value() for name, part in self._parts.items()}

    def merged(self) -> dict[str, Tensor]:
        """The weights as they are now, for good."""
        with torch.no_grad():
            return {name: value.clone() for name, value in self.values().items()}


class _Whole:
    def __init__(self, base: Tensor) -> None:
        self._base, self._unit = base, max(_size(base), _LEAST_UNIT)
        self._mask = _mask(base) if base.ndim > 1 else None
        self._update = torch.zeros_like(base, requires_grad=True)
        self.parameters = [self._update]

    def value(self) -> Tensor:
        value = self._base + self._unit * self._update
        return value if self._mask is None else value * self._mask


class _LowRank:
    def __init__(self, base: Tensor, axis: int, rank: int, generator: torch.Generator) -> None:
        self._base, self._axis, self._mask = base, axis, _mask(base)
        rows, columns = base.shape[axis], base.numel() // base.shape[axis]
        rank = min(rank, rows, columns)
        self._unit = _size(base)
        self._gain = torch.zeros(rows, 1, requires_grad=True)
        self._left = torch.zeros(rows, rank, requires_grad=True)
        self._right = torch.randn(rank, columns, generator=generator).div_(rank**0.5).requires_grad_()
        self.parameters = [self._gain, self._left, self._right]

    def value(self) -> Tensor:
        moved = self._base.movedim(self._axis, 0)
        flat = moved.reshape(moved.shape[0], -1)
        flat = flat * (1 + self._gain) + self._unit * (self._left @ self._right)
        value = flat.reshape(moved.shape).movedim(0, self._axis)
        return value if self._mask is None else value * self._mask


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _mask(x: Tensor) -> Tensor | None:
    """Where x is not zero; None where it is nowhere zero."""
    kept = x != 0
    return None if bool(kept.all()) else kept.to(x.dtype)
