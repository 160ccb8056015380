"""AdaMerging: how much of each task vector each layer takes, so that predictions on unlabeled samples are surest.

    W_l = base_l + sum_k c_kl (W_kl - base_l)        c = START at first (Yang et al. 2024, layer-wise)

What differs: no gradient is computed. The logits' derivatives by all c come of differences, one run of the samples for
each; along them the entropy is made least in a box around c (passes/solvers/entropy.py). Where the true entropy falls
too, c moves there, and the next round begins; else the box shrinks. A matrix is a layer, with the vectors behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.data import Calibration
from lwc.compiler.merging.align import Group
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import all_samples, models_of, notes_of, outputs_of
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.roles import Role
from lwc.compiler.merging.stream import streamed
from lwc.compiler.metrics import Outputs
from lwc.compiler.prepare import class_outputs
from lwc.passes.solvers.entropy import Floats, entropies, surer
from lwc.passes.solvers.parts import Array, Parts
from lwc.passes.solvers.task_vectors import task_sum

METHOD = "adamerging"
START = 0.3
SAMPLES = 192  # of all models together
ROUNDS = 4
RADIUS = 0.3  # of the first box; halved where the true entropy does not fall
SMALLEST = 0.02
STEP = 0.05  # of differences
_LEAST_CHANCE = 1e-12


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The base with all models in it. Raises UsageError where no output is scores over classes, BadCalibration."""
    every = all_samples(job)
    trial = _Trial(job, tuple(own.take(max(1, SAMPLES // len(every))) for own in every), _layers(job))
    start = np.full((trial.count, len(models_of(job))), START)
    found, before, after = _surest(trial, start)
    told = f"The mean entropy of {sum(map(len, trial.samples))} samples fell from {before:.4f} to {after:.4f} nats"
    span = f"coefficients are between {found.min():.2f} and {found.max():.2f}, of {trial.count} layers."
    return trial.model(found, counted=True), (*notes_of(job), f"{told}; {span}")


@dataclass(frozen=True, eq=False)
class _Trial:
    """Models of coefficients [layers, models], and their logits.  layers: of each parameter, the number of its layer"""

    job: Job
    samples: tuple[Calibration, ...]
    layers: Mapping[str, int]

    @property
    def count(self) -> int:
        return max(self.layers.values(), default=-1) + 1

    def model(self, coefficients: Floats, counted: bool = False) -> Model:
        """counted: progress is told of every parameter"""

        def merged(group: Group, parts: Parts) -> Iterator[Array]:
            if group.name not in self.layers:
                return merge_group(self.job.recipe, group, parts)
            return task_sum(parts, tuple(coefficients[self.layers[group.name]].tolist()))

        advance = (lambda _: self.job.progress.advance()) if counted else (lambda _: None)
        return streamed(self.job.aligned, merged, base=True, on_merged=advance)

    def logits(self, coefficients: Floats) -> Floats:
        """[rows, classes] of all samples."""
        model = self.model(coefficients)
        found = [_logits(model, outputs) for own in self.samples for outputs in outputs_of(model, own)]
        self.job.progress.advance()
        return np.concatenate(found)


def _layers(job: Job) -> dict[str, int]:
    found: dict[str, int] = {}
    count = 0
    for group in job.aligned.groups:
        if group.role is Role.WEIGHT and job.recipe.of(group.name).method == METHOD:
            count += len(group.shape) > 1 or not found
            found[group.name] = count - 1
    return found


def _surest(trial: _Trial, start: Floats) -> tuple[Floats, float, float]:
    """Coefficients, the entropy at the start, and theirs."""
    trial.job.progress.stage("Looking for sure predictions", ROUNDS * start.size)
    best, logits, radius = start, trial.logits(start), RADIUS
    first = least = float(entropies(logits).mean())
    rounds = 0
    while radius >= SMALLEST and rounds < ROUNDS:
        jacobian, rounds, fell = _jacobian(trial, best, logits), rounds + 1, False
        while radius >= SMALLEST and not fell:
            tried = best + surer(logits, jacobian, radius).reshape(best.shape)
            answers = trial.logits(tried)
            fell = float(entropies(answers).mean()) < least
            if fell:
                best, logits, least = tried, answers, float(entropies(answers).mean())
            else:
                radius /= 2.0
    return best, first, least


def _jacobian(trial: _Trial, coefficients: Floats, logits: Floats) -> Floats:
    """[coefficients, rows, classes]"""
    columns = []
    for place in np.ndindex(*coefficients.shape):
        moved = coefficients.copy()
        moved[place] += STEP
        columns.append((trial.logits(moved) - logits) / STEP)
    return np.stack(columns)


def _logits(model: Model, outputs: Outputs) -> Floats:
    names = class_outputs(model, outputs)
    if not names:
        raise UsageError(
            f"'{METHOD}' makes predictions sure, and no output of {model.name} is scores over classes.",
            "Take another method.",
        )
    scores = np.asarray(outputs[names[0]], np.float64)
    rows = scores.reshape(-1, scores.shape[-1])
    chances = bool((rows >= 0.0).all()) and bool((abs(rows.sum(axis=1) - 1.0) < 1e-2).all())
    return np.log(np.maximum(rows, _LEAST_CHANCE)) if chances else rows
