"""Channels permuted to match, then averaged (Ainsworth, Hayase, Srinivasa 2022, "Git Re-Basin").

Models that share no start have learned the same features in other places. Their channels are put in the order of the
first's, group by group: in which weights are most alike, or, where samples are given, what channels do with them. What
is averaged then are models that compute just what they did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from lwc.compiler.core.model import Model
from lwc.compiler.merging.align import Aligned
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import all_samples
from lwc.compiler.merging.frame import Frame, framed
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.likeness import orders_by_activations, orders_by_weights
from lwc.compiler.merging.masks import is_sparse, keep_masks, zeros
from lwc.compiler.merging.stream import streamed
from lwc.passes.solvers.permutation import Orders, moved


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The average of the models, in the tidied graph of the first."""
    frame, orders = ordered(job)
    aligned = frame.fits(orders)
    model = averaged(job, aligned)
    return model, [*notes_of(frame, orders), *keep_masks(model, aligned, job.recipe, based=False)]


def ordered(job: Job) -> tuple[Frame, list[Orders]]:
    """The models as one graph, and for each behind the first the orders of its channels that match the first's."""
    frame = framed(job.aligned, job.progress)
    others = range(1, len(job.aligned.models))
    job.progress.stage("Matching channels", len(others))
    samples = all_samples(job) if job.calib else ()
    orders = []
    for k in others:
        if samples:
            found = orders_by_activations(frame, k, samples, job.recipe.seed)
        else:
            found = orders_by_weights(frame, k, job.recipe.seed)
        orders.append(keeping_masks(frame, k, found))
        job.progress.advance()
    return frame, orders


def keeping_masks(frame: Frame, k: int, orders: Orders) -> Orders:
    """The orders without those of groups that would move a mask that the k-th model shares with the first."""
    theirs, mine = frame.tensors(k), frame.tensors(0)
    masked = {
        at: (first, second)
        for at, lying in frame.layout.items()
        if lying and is_sparse(mine[at].numpy())
        and np.array_equal(first := zeros(mine[at]), second := zeros(theirs[at]))
    }  # fmt: skip
    left = dict(orders)
    while True:
        broken = {
            one.group
            for at, (first, second) in masked.items()
            if not np.array_equal(first, moved(second, frame.layout[at], left))
            for one in frame.layout[at]
        } & set(left)
        if not broken:
            return left
        left = {group: order for group, order in left.items() if group not in broken}


def averaged(job: Job, aligned: Aligned) -> Model:
    """The average by weight; layers of a recipe by methods of their own."""
    merged = partial(merge_group, job.recipe)
    return streamed(aligned, merged, base=False, on_merged=lambda _: job.progress.advance())


def notes_of(frame: Frame, orders: Sequence[Orders]) -> Iterator[str]:
    """What changed places, and what cannot."""
    first, *others = (model.name for model in frame.aligned.models)
    for name, found in zip(others, orders, strict=True):
        changed = sum(int((order != np.arange(len(order))).sum()) for order in found.values())
        total = sum(frame.sizes.values())
        yield f"'{name}': {changed} of {total} channels in {len(found)} groups changed places to match '{first}'."
        if len(found) < len(frame.sizes):
            held = ", ".join(f"'{group}'" for group in frame.sizes if group not in found)
            yield f"'{name}': channels stay where a mask is shared: {held}."
    if frame.stay:
        yield f"Channels that stay in their places: {'; '.join(frame.stay)}."
