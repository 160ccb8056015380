"""How alike the channels of two models are: by their weights, or by what they do with samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.model import Model
from lwc.compiler.core.skeleton import initialized
from lwc.compiler.data import Calibration
from lwc.compiler.merging.evidence import named_for, open_session
from lwc.compiler.merging.frame import Frame
from lwc.passes.solvers.permutation import Array, Likeness, Lying, Matched, Orders, match_channels

SAMPLES = 256  # at most, spread over all there are
ROWS = 16384  # of each activation, over all samples
LEAST_ROWS = 16  # of a sample
WIDEST = 8192  # positions that are all compared with each other


def orders_by_weights(frame: Frame, k: int, seed: int) -> Orders:
    """Channels of the k-th model in the order in which its weights are most like the first's."""
    return match_channels(_by_weights(frame, k), frame.sizes, seed)


def orders_by_activations(frame: Frame, k: int, samples: Sequence[Calibration], seed: int) -> Orders:
    """Channels of the k-th model in the order in which they do most like the first's, by correlation over samples.

    Groups whose channels no layer sums over have no activations to compare: they go by their weights.
    """
    terms = _by_activations(frame, frame.fitted(k, {}), samples, seed)
    seen = {one.group for term in terms for one in term.lying}
    rest = [term for term in _by_weights(frame, k) if not seen & {one.group for one in term.lying}]
    return match_channels([*terms, *rest], frame.sizes, seed)


def _by_weights(frame: Frame, k: int) -> list[Matched | Likeness]:
    theirs = frame.tensors(k)
    return [
        Matched(tensor.numpy(), theirs[at].numpy(), frame.layout[at])
        for at, (_, tensor) in enumerate(initialized(frame.model.ir))
        if frame.layout.get(at) and tensor.dtype.is_floating_point()
    ]


@dataclass
class _Compared:
    """Moments of the positions on some axes of an activation, taken together, in both models.

    lying: the groups there, as on one axis that joins them
    """

    axes: tuple[int, ...]
    lying: list[Lying]
    count: int = 0
    sums: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, first: Array, second: Array, limit: int, rng: np.random.Generator) -> None:
        """The same places of both, at most so many, drawn at random."""
        size = math.prod(first.shape[axis] for axis in self.axes)
        last = range(-len(self.axes), 0)
        a, b = (np.moveaxis(array, self.axes, last).reshape(-1, size) for array in (first, second))
        if len(a) > limit:
            places = rng.choice(len(a), limit, replace=False)
            a, b = a[places], b[places]
        a, b = a.astype(np.float32), b.astype(np.float32)
        found = [a.T @ b, *(part.astype(np.float64).sum(0) for part in (a, b, a * a, b * b))]
        self.sums = [one + more for one, more in zip(self.sums, found, strict=True)] if self.sums else found
        self.count += len(a)

    def likeness(self) -> Likeness:
        """Correlations; none of a position that never changes."""
        cross, *moments = (total / self.count for total in self.sums)
        mean_a, mean_b, square_a, square_b = moments
        spread = np.outer(square_a - mean_a**2, square_b - mean_b**2)
        found = (cross - np.outer(mean_a, mean_b)) / np.sqrt(np.where(spread > 0.0, spread, np.inf))
        return Likeness(np.nan_to_num(found, posinf=0.0, neginf=0.0), self.lying)


def _by_activations(frame: Frame, other: Model, samples: Sequence[Calibration], seed: int) -> list[Matched | Likeness]:
    found = {value.name or "": _compared(frame, value) for value in _summed_over(frame)}
    compared = {name: one for name, one in found.items() if one is not None}
    names = list(compared)
    sessions = [open_session(model, names) for model in (frame.model, other)] if names else []
    limit = max(LEAST_ROWS, ROWS // min(SAMPLES, sum(map(len, samples))))
    for number, feeds in enumerate(_feeds(samples, frame.model) if names else ()):
        first, second = (session.run(feeds) for session in sessions)
        for name, one in compared.items():
            one.add(first[name], second[name], limit, np.random.default_rng([seed, number]))
    return [one.likeness() for one in compared.values() if one.count]


def _summed_over(frame: Frame) -> Iterable[ir.Value]:
    """What layers read and sum over channels of groups."""
    nodes = frame.model.by_name()
    found: dict[ir.Value, None] = {}
    for group in frame.channels.groups:
        for slot in group.contracted:
            for value in nodes[slot.node].inputs:
                if value is not None and value.const_value is None and value.name:
                    found.setdefault(value)
    return found


def _compared(frame: Frame, value: ir.Value) -> _Compared | None:
    """Where groups lie on several axes, such as heads and what is within them, all are compared at once."""
    found = [one for one in frame.channels.on(value) if one.site.name in frame.sizes]
    axes = tuple(sorted({one.axis for one in found}))
    dims = [value.shape[axis] for axis in axes] if value.shape is not None else []
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if not axes or len(sizes) < len(axes) or math.prod(sizes) > WIDEST:
        return None
    places = np.arange(math.prod(sizes)).reshape(sizes)
    lying = []
    for one in found:
        there = np.moveaxis(places, axes.index(one.axis), 0)[one.positions]
        lying.append(Lying(one.site.name, 0, np.sort(there.reshape(len(there), -1), axis=1)))
    apart = all(len(np.unique(one.positions)) == one.positions.size for one in lying)
    return _Compared(axes, lying) if apart else None


def _feeds(samples: Sequence[Calibration], model: Model) -> Iterator[dict[str, Array]]:
    step = -(-sum(map(len, samples)) // SAMPLES)
    every = (feeds for one in samples for feeds in named_for(one, model).feeds())
    return islice(every, 0, None, step)
