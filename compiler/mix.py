"""Shapes that samples have: those worth compiling for, and a few samples that stand for all on the clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lwc import backends
from lwc.compiler.core.backend import Backend, NamesShapes
from lwc.compiler.data import Calibration
from lwc.compiler.metrics import Sample

MOST_SHAPES = 16  # to compile for
MOST_TIMED = 12

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(sample: Sample, inputs: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Of the sample's arrays; sequences have none."""
    found = ((name, sample.get(name)) for name in inputs)
    return {name: array.shape for name, array in found if isinstance(array, np.ndarray)}


def frequent_shapes(samples: Iterable[Sample], inputs: Sequence[str], middle: Sample) -> tuple[Shapes, ...]:
    """The most frequent ones first, of equally frequent ones those nearest in size to the sample `middle`."""
    counts = Counter(tuple(shapes_of(sample, inputs).items()) for sample in samples)
    wanted = _size(shapes_of(middle, inputs))
    ordered = sorted(counts, key=lambda found: (-counts[found], abs(_size(dict(found)) - wanted), found))
    return tuple(dict(found) for found in ordered[:MOST_SHAPES])


def mixed(found: Sequence[Shapes], compiled: Sequence[Shapes]) -> tuple[int, ...]:
    """Indices of samples of these shapes to time in turn: all sizes, compiled for or not, in their proportion.

    A systematic sample: every n-th in the order of what they have in common.
    """
    order = sorted(range(len(found)), key=lambda k: (found[k] not in compiled, _size(found[k])))
    count = min(MOST_TIMED, len(order))
    return tuple(order[int((k + 0.5) * len(order) / count)] for k in range(count))


def reach(backend: Backend, folder: Path, samples: Calibration) -> str:
    """For which shapes a runtime has code in `folder`, and how many samples have those; empty where all do."""
    if not isinstance(backend, NamesShapes):
        return ""
    built = backend.built_for(folder)
    reached = sum(shapes_of(sample, samples.names) in built for sample in samples)
    if not built or reached == len(samples):
        return ""
    inputs = (" and ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) for shapes in built)
    return (
        f"compiled for the shapes of {reached} of {len(samples)} held-out samples ({'; '.join(inputs)}); "
        f"others run on {backends.REFERENCE}"
    )


def _size(shapes: Shapes) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())
