"""Soups: averages of models that score best on samples with labels, or by any metric (Wortsman et al. 2022).

greedy     models in the order of their scores; each stays where the average with it scores no less (recipe 1)
learned    from there on, weights that score more, found by trying: no gradient of the metric is needed

Scores are means over the samples of all models. What a soup scores on samples that chose it is more than it will on
others: keep some back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lwc.compiler.core.model import Model
from lwc.compiler.data import Calibration
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import all_samples, metric_of, models_of, notes_of, score
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.stream import streamed
from lwc.passes.solvers.simplex import Weights, climb


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The models as one. Raises UsageError without a metric or labels, BadCalibration."""
    samples = all_samples(job)
    kitchen = _Kitchen(job, samples, metric_of(job, samples))
    job.progress.stage("Tasting")
    greedy = _greedy(kitchen, len(models_of(job)))
    found = climb(kitchen.score, greedy) if job.recipe.learned else greedy
    names = [model.name for model in models_of(job)]
    told = ", ".join(f"{weight:.4g} '{name}'" for name, weight in zip(names, found, strict=True) if weight)
    alone = max(kitchen.score(_mean([k], len(names))) for k in range(len(names)))
    scores = f"it scores {kitchen.score(found):.4f} on these samples, the best model alone {alone:.4f}."
    return kitchen.model(found, counted=True), (*notes_of(job), f"The soup is {told}; {scores}")


@dataclass(frozen=True, eq=False)
class _Kitchen:
    """Averages and what they score, each tried once."""

    job: Job
    samples: tuple[Calibration, ...]
    metric: object
    known: dict[Weights, float] = field(default_factory=dict)

    def model(self, weights: Weights, counted: bool = False) -> Model:
        """counted: progress is told of every parameter"""
        recipe = replace(self.job.recipe, settings=replace(self.job.recipe.settings, method="linear", weights=weights))
        advance = (lambda _: self.job.progress.advance()) if counted else (lambda _: None)
        return streamed(self.job.aligned, partial(merge_group, recipe), base=False, on_merged=advance)

    def score(self, weights: Weights) -> float:
        """The mean over the sets of samples."""
        if weights not in self.known:
            model = self.model(weights)
            self.known[weights] = sum(score(model, own, self.metric) for own in self.samples) / len(self.samples)
            self.job.progress.advance()
        return self.known[weights]


def _greedy(kitchen: _Kitchen, models: int) -> Weights:
    order = sorted(range(models), key=lambda k: -kitchen.score(_mean([k], models)))
    kept, best = order[:1], kitchen.score(_mean(order[:1], models))
    for k in order[1:]:
        found = kitchen.score(_mean([*kept, k], models))
        if found >= best:
            kept, best = [*kept, k], found
    return _mean(kept, models)


def _mean(kept: Sequence[int], models: int) -> Weights:
    return tuple(1.0 / len(kept) if k in kept else 0.0 for k in range(models))
