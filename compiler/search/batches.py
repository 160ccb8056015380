"""Samples that are fed together, where the model computes each of them as if it were alone.

Whether it does is measured: the float model on every batch must give what the original gave sample by sample.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.shapes import forget_inner_shapes
from lwc.compiler.analysis.value_sizes import value_sizes
from lwc.compiler.core.backend import Array, Feeds, Session
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.metrics import Outputs
from lwc.compiler.search.relative_error import relative_error
from lwc.passes.edit import Names, add_initializer, constant_array

log = logging.getLogger(__name__)

Dims = tuple[int | None, ...]

MOST_TOGETHER = 8
_EQUAL = 1e-10  # relative squared error between a batch and its samples alone; float32 rounding makes some 1e-13
_TIMES_ALONE = 10.0  # or so many times what cleaning the graph changed


class Samples(Protocol):
    """Complete sets of inputs by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Feeds: ...


@dataclass(frozen=True)
class Run:
    """Indices of the samples that are fed together, in order."""

    samples: tuple[int, ...]

    def feeds(self, samples: Samples, names: Sequence[str]) -> dict[str, Array]:
        """The samples' arrays one behind the other along the first axis."""
        if len(self.samples) == 1:
            return {name: samples[self.samples[0]][name] for name in names}
        read = [samples[i] for i in self.samples]
        return {name: np.concatenate([sample[name] for sample in read]) for name in names}


def find_runs(
    model: Model,
    samples: Samples,
    originals: Callable[[int], Outputs],
    open_session: Callable[[Model], Session],
    max_memory_bytes: int,
) -> tuple[Model, tuple[Run, ...]]:
    """The runs that cover all samples, and the model to run them on: a fork that takes batches, or the model itself.

    max_memory_bytes: for the values of a run, all together;  where one sample has as many, nothing is fed together
    """
    alone = model, tuple(Run((i,)) for i in range(len(samples)))
    names = [value.name or "" for value in model.graph.inputs if not value.is_initializer()]
    runs = _alike(samples, names, lambda sample: max_memory_bytes // max(1, sum(value_sizes(model, sample).values())))
    if len(runs) == len(samples):
        return alone
    loose = loosened(model)
    try:
        agree = _agree(loose, runs, samples, names, originals, open_session)
    except LwcError as error:
        log.debug("no batches: %s", error)
        return alone
    return (loose, runs) if agree else alone


def _agree(
    model: Model,
    runs: Sequence[Run],
    samples: Samples,
    names: Sequence[str],
    originals: Callable[[int], Outputs],
    open_session: Callable[[Model], Session],
) -> bool:
    first = Run((0,))
    shapes = [{name: array.shape for name, array in run.feeds(samples, names).items()} for run in (first, *runs)]
    dims = {name: merged([each[name] for each in shapes]) for name in names}
    session = open_session(relax(model.fork(), dims))
    limit = max(_EQUAL, _TIMES_ALONE * relative_error(originals(0), session.run(first.feeds(samples, names))))
    for run in runs:
        outputs = session.run(run.feeds(samples, names))
        for k, index in enumerate(run.samples):
            want = originals(index)
            got = shares(outputs, want, k, len(run.samples))
            if not (got.keys() == want.keys() and relative_error(want, got) <= limit):
                return False
    return True


def _alike(samples: Samples, names: Sequence[str], most: Callable[[Feeds], int]) -> tuple[Run, ...]:
    """Samples of the same shapes, so many together as may be; ordered by the first sample of each run.

    most: how many samples like this one fit together
    """
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index in range(len(samples)):
        sample = samples[index]
        shapes = tuple(sample[name].shape for name in names)
        groups.setdefault(shapes, []).append(index)
    runs = []
    for shapes, group in groups.items():
        together = 1
        if len(group) > 1 and shapes and all(shapes):  # a scalar has no axis to stack along
            sample = samples[group[0]]
            together = max(1, min(MOST_TOGETHER, most({name: sample[name] for name in names})))
        runs += [Run(tuple(group[k : k + together])) for k in range(0, len(group), together)]
    return tuple(sorted(runs, key=lambda run: (-len(run.samples), run.samples)))


def loosened(model: Model) -> Model:
    """A fork in which no Reshape writes a leading one where it could copy it: exporters fix the batch that way."""
    fork = model.fork()
    names = Names(fork.ir)
    for node in list(fork.graph):
        if node.op_type != "Reshape" or node.domain or node.attributes.get_int("allowzero", 0) == 1:
            continue
        shape = constant_array(node.inputs[1])
        if shape is None or shape.ndim != 1 or not shape.size or shape[0] != 1:
            continue
        first = _first_dim(node.inputs[0])
        if first == 1 or -1 not in shape:
            loose = shape.copy()
            loose[0] = 0 if first == 1 else -1
            node.replace_input_with(1, add_initializer(fork.graph, names.claim(f"{node.name}.shape"), loose))
    return fork


def _first_dim(value: ir.Value | None) -> int | None:
    if value is None or value.shape is None or not len(value.shape):
        return None
    first = value.shape[0]
    return first if isinstance(first, int) else None


def shares(outputs: Outputs, want: Outputs, k: int, count: int) -> dict[str, Array]:
    """The k-th sample's part of the outputs of `count` samples; what has no such part is left out.

    want: outputs of one sample alone, whose shapes tell on which axis the samples lie
    """
    if count == 1:
        return dict(outputs)
    found = {}
    for name in outputs.keys() & want.keys():
        array, size = outputs[name], np.shape(want[name])
        axes = [
            axis
            for axis in range(len(size))
            if np.shape(array) == (*size[:axis], count * size[axis], *size[axis + 1 :])
        ]
        if len(axes) == 1:
            found[name] = np.split(array, count, axes[0])[k]
    return found


def merged(shapes: Sequence[tuple[int, ...]]) -> Dims:
    """The dimensions that are the same in all shapes; None where they differ."""
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))


def relax(model: Model, dims: Mapping[str, Dims]) -> Model:
    """Give inputs these dimensions (None: any) and forget all other shapes, in place."""
    for value in model.graph.inputs:
        if value.name is not None and value.name in dims:
            value.shape = ir.Shape(dims[value.name])
    forget_inner_shapes(model.ir)
    for value in model.graph.outputs:
        value.shape = None
    return model
