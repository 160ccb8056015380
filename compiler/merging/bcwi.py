"""Between an old and a new model, where the fewest answers that were right turn wrong (Schumann et al. 2023,
"Backward Compatibility During Data Updates by Weight Interpolation").

    W = (1 - c) W_old + c W_new        c = 0, 0.05 ... 1

A negative flip is a sample that the old model had right and the other has wrong; for a metric that is no share of right
answers, what a sample loses. Of the coefficients that score no less than the new model, with at most half of its flips,
the best one is taken, of equal ones that nearest to the new model; where no flips are halved, that with the fewest. The
old model itself is none of them: it is no update.
Without labels and metric, right is what the mean of both models' outputs says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.accumulate import is_float
from lwc.compiler.core.backend import Array
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.data import Calibration
from lwc.compiler.merging.curve import Curve
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import LABELS, SYNTHETIC, all_samples, outputs_of, resolved
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.stream import streamed
from lwc.compiler.metrics import Metric
from lwc.compiler.spool import Spool

STEPS = 20
WANTED = 0.5  # of the new model's flips
ACCURACY, FLIPS = "accuracy", "negative flips"

Scores = NDArray[np.float64]
T = TypeVar("T")


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The model at the best coefficient. Raises UsageError for weights, and for metrics over whole sets."""
    if job.recipe.settings.weights:
        raise UsageError("'bcwi' finds the weights of the two models itself.", "Leave out --weights.")
    samples = all_samples(job)
    shares = [k / STEPS for k in range(STEPS + 1)]
    job.progress.stage("Sweeping from old to new", len(shares))
    found = sweep(shares, _scores(job, samples, shares))
    job.curves.append(found)
    return _between(job, shares[found.chosen]), list(_notes(job, found, samples))


def sweep(shares: Sequence[float], scores: Scores) -> Curve:
    """What is gained and lost at each share of the new model, and which is best.

    scores: [shares, samples], of the old model first, of the new one last
    """
    accuracy = scores.mean(axis=1)
    flips = np.maximum(scores[0] - scores, 0.0).mean(axis=1)
    kept = [k for k in range(1, len(shares)) if accuracy[k] >= accuracy[-1]]
    halved = [k for k in kept if flips[k] <= WANTED * flips[-1]]
    best = max(halved, key=lambda k: (accuracy[k], k)) if halved else min(kept, key=lambda k: (flips[k], -k))
    lines = {ACCURACY: tuple(accuracy.tolist()), FLIPS: tuple(flips.tolist())}
    return Curve("share of the new model", tuple(shares), lines, best)


def _scores(job: Job, samples: Sequence[Calibration], shares: Sequence[float]) -> Scores:
    """[shares, samples]"""
    old, new = (_answers(_between(job, share), samples) for share in (0.0, 1.0))
    metric, wanted = _judge(job, samples, old, new)

    def scored(answers: Sequence[Spool]) -> list[float]:
        assert metric.score is not None
        job.progress.advance()
        triples = zip(_flat(answers), _flat(samples), _flat(wanted), strict=True)
        return [metric.score(outputs, sample, right) for outputs, sample, right in triples]

    between = (scored(_answers(_between(job, share), samples)) for share in shares[1:-1])
    return np.array([scored(old), *between, scored(new)])


def _answers(model: Model, samples: Sequence[Calibration]) -> list[Spool]:
    return [outputs_of(model, each) for each in samples]


def _flat(parts: Iterable[Iterable[T]]) -> Iterator[T]:
    return (one for part in parts for one in part)


def _judge(
    job: Job, samples: Sequence[Calibration], old: Sequence[Spool], new: Sequence[Spool]
) -> tuple[Metric, Sequence[Spool]]:
    """What says how right an answer is, and the outputs that it compares with. Raises UsageError."""
    labelled = all(LABELS & set(each.labels) for each in samples)
    name = job.metric if job.metric is not None else "top1" if labelled else "fidelity"
    metric = resolved(name, job.aligned.models[0], old[0])
    if metric.score is None:
        raise UsageError(f"'bcwi' scores single samples, and '{metric.name}' is of whole sets.", "Use another metric.")
    wanted = []
    for pair in zip(old, new, strict=True):
        wanted.append(Spool())
        for a, b in zip(*pair, strict=True):
            wanted[-1].append({name: _middle(a[name], b[name]) for name in a})
    return metric, wanted


def _middle(old: Array, new: Array) -> Array:
    """The mean of two outputs; of those that are no floats or of other shapes, the new one."""
    return (old + new) / 2 if is_float(old.dtype) and old.shape == new.shape else new


def _between(job: Job, share: float) -> Model:
    """The model with so large a share of the new one. Layers that a recipe keeps stay as the old one has them."""
    recipe = replace(job.recipe, settings=replace(job.recipe.settings, weights=(1.0 - share, share)))
    return streamed(job.aligned, partial(merge_group, recipe), base=False, on_merged=lambda _: None)


def _notes(job: Job, found: Curve, samples: Sequence[Calibration]) -> Iterator[str]:
    accuracy, flips, k = found.lines[ACCURACY], found.lines[FLIPS], found.chosen
    count = sum(map(len, samples))
    yield (
        f"{found.x[k]:.2f} of the new model: {flips[k]:.2%} negative flips instead of {flips[-1]:.2%}, "
        f"accuracy {accuracy[k]:.4f} (new {accuracy[-1]:.4f}, old {accuracy[0]:.4f}), on {count} samples."
    )
    if job.metric is None and not all(LABELS & set(each.labels) for each in samples):
        yield "The samples have no labels: right is what the mean of both models says."
    if not job.calib:
        yield SYNTHETIC
