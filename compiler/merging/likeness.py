"""How alike the channels of two models are: by their weights, or by what they do with samples."""

from __future__ import annotations

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
    """Moments of the positions on one axis of an activation, in both models. lying: the groups there"""

    axis: int
    lying: list[Lying]
    count: int = 0
    sums: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, first: Array, second: Array, limit: int, rng: np.random.Generator) -> None:
        """The same places of both, at most so many, drawn at random."""
        a, b = (np.moveaxis(array, self.axis, -1).reshape(-1, array.shape[self.axis]) for array in (first, second))
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
    compared = {value.name or "": list(_compared(frame, value)) for value in _summed_over(frame)}
    names = [name for name, places in compared.items() if places]
    sessions = [open_session(model, names) for model in (frame.model, other)] if names else []
    limit = max(LEAST_ROWS, ROWS // min(SAMPLES, sum(map(len, samples))))
    for number, feeds in enumerate(_feeds(samples, frame.model) if names else ()):
        first, second = (session.run(feeds) for session in sessions)
        for name in names:
            for place in compared[name]:
                place.add(first[name], second[name], limit, np.random.default_rng([seed, number]))
    return [place.likeness() for name in names for place in compared[name] if place.count]


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


def _compared(frame: Frame, value: ir.Value) -> Iterator[_Compared]:
    lying = [one for one in frame.channels.on(value) if one.site.name in frame.sizes]
    for axis in sorted({one.axis for one in lying}):
        there = [Lying(one.site.name, 0, one.positions) for one in lying if one.axis == axis]
        if all(len(np.unique(one.positions)) == one.positions.size for one in there):
            yield _Compared(axis, there)


def _feeds(samples: Sequence[Calibration], model: Model) -> Iterator[dict[str, Array]]:
    step = -(-sum(map(len, samples)) // SAMPLES)
    every = (feeds for one in samples for feeds in named_for(one, model).feeds())
    return islice(every, 0, None, step)
