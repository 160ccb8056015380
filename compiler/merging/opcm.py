"""OPCM: models added to the base one at a time, each without what is there already; see passes/solvers/projection.py.

Needs no samples. Tensors of two axes and more are matrices [first axis, others]; the rest is summed. The scale of the
sum is one number for all parameters, so that the task vectors are gone over twice: memory stays at one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.model import Model
from lwc.compiler.merging.align import Group
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.roles import Role
from lwc.compiler.merging.stream import streamed
from lwc.passes.solvers.parts import Array, Parts
from lwc.passes.solvers.projection import Floats, add_projected

METHOD = "opcm"


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The base with all models in it. Raises UsageError."""
    factor = _factor(job)

    def merged(group: Group, parts: Parts) -> Iterator[Array]:
        settings = job.recipe.of(group.name)
        if not _is_summed(job, group):
            return merge_group(job.recipe, group, parts)
        return _added(parts, settings.shares(len(parts.tensors)), factor * settings.scale)

    return streamed(job.aligned, merged, base=True, on_merged=lambda _: job.progress.advance()), ()


def _is_summed(job: Job, group: Group) -> bool:
    return group.role is Role.WEIGHT and job.recipe.of(group.name).method == METHOD


def _factor(job: Job) -> float:
    """1 / lambda: the sum becomes as long as a task vector is in the mean, all parameters together."""
    chosen = [group for group in job.aligned.groups if _is_summed(job, group)]
    job.progress.stage("Projecting", len(chosen))
    length, lengths = 0.0, np.zeros(len(job.aligned.models) - 1)
    for group in chosen:
        base, *tensors = (tensor.numpy() for tensor in group.tensors)
        changes = list(_changes(base, tensors, job.recipe.of(group.name).shares(len(tensors))))
        length += float(np.square(_sum(changes)).sum())
        lengths += [float(np.square(change).sum()) for change in changes]
        job.progress.advance()
    return float(np.sqrt(lengths).mean()) / math.sqrt(length) if length > 0.0 else 0.0


def _added(parts: Parts, shares: Sequence[float], factor: float) -> Iterator[Array]:
    assert parts.base is not None
    found = _matrix(parts.base) + factor * _sum(_changes(parts.base, parts.tensors, shares))
    yield np.ravel(found).astype(parts.dtype)


def _changes(base: NDArray[Any], tensors: Sequence[NDArray[Any]], shares: Sequence[float]) -> Iterator[Floats]:
    return (share * (_matrix(tensor) - _matrix(base)) for tensor, share in zip(tensors, shares, strict=True))


def _sum(changes: Iterable[Floats]) -> Floats:
    total: Floats | None = None
    for change in changes:
        flat = min(change.shape) == 1
        total = change if total is None else total + change if flat else add_projected(total, change)
    assert total is not None
    return total


def _matrix(tensor: NDArray[Any]) -> Floats:
    """[first axis, others]; vectors and scalars as one row."""
    wide = tensor.reshape(tensor.shape[0], -1) if tensor.ndim > 1 else tensor.reshape(1, -1)
    return wide.astype(np.float64)
