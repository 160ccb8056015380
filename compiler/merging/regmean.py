"""RegMean: layers that answer, on each model's own inputs, what that model's layer did; see passes/solvers/regmean.py.

Weights of layers are solved with the Gram matrices of their inputs in each model; all else is averaged, or merged as
the recipe says. Scope: weights of the main graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from lwc.compiler.core.model import Model
from lwc.compiler.merging.align import Group
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import models_of, notes_of, samples_by_model
from lwc.compiler.merging.in_order import Solver
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.layers import Floats, Layer, find_layers, grams_by_model, look_at
from lwc.compiler.merging.recipe import Settings
from lwc.compiler.merging.stream import in_memory, streamed
from lwc.passes.solvers.parts import Array, Parts
from lwc.passes.solvers.regmean import regmean

METHOD = "regmean"


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The models as one. Raises UsageError, BadCalibration."""
    layers = {name: layer for name, layer in find_layers(job.aligned).items() if job.recipe.of(name).method == METHOD}
    return _in_order(job, layers) if job.recipe.in_order else _at_once(job, layers)


def _at_once(job: Job, layers: Mapping[str, Layer]) -> tuple[Model, Sequence[str]]:
    stats = look_at(layers.values(), models_of(job), samples_by_model(job), job.progress, job.recipe.seed)
    grams = {name: found for name, layer in layers.items() if (found := grams_by_model(layer, stats)) is not None}

    def merged(group: Group, parts: Parts) -> Iterator[Array]:
        if group.name not in grams:
            return merge_group(job.recipe, group, parts)
        return _solved(layers[group.name], grams[group.name], parts, job.recipe.of(group.name))

    model = streamed(job.aligned, merged, base=False, on_merged=lambda _: job.progress.advance())
    rest = len(job.aligned.groups) - len(grams)
    return model, (*notes_of(job), f"{len(grams)} weights were solved for their inputs, {rest} parameters averaged.")


def _in_order(job: Job, layers: Mapping[str, Layer]) -> tuple[Model, Sequence[str]]:
    average = partial(merge_group, job.recipe)
    merged = in_memory(streamed(job.aligned, average, base=False, on_merged=lambda _: job.progress.advance()))
    free = {group.name for group in job.aligned.groups if job.recipe.of(group.name).method == METHOD}
    shares = job.recipe.settings.shares(len(models_of(job)))
    solver = Solver(job.aligned, merged, samples_by_model(job), shares, free)
    alone = [layer for layer in layers.values() if all(len(nodes) == 1 for nodes in layer.readers)]
    solved = solver.solve(alone, job.progress)
    return merged, (*notes_of(job), f"{solved} weights were solved in order, with their biases; others were averaged.")


def _solved(layer: Layer, grams: list[list[Floats]], parts: Parts, settings: Settings) -> Iterator[Array]:
    """grams: of every model and part"""
    shares = settings.shares(len(parts.tensors))
    weights = zip(*(layer.matrices(tensor) for tensor in parts.tensors), strict=True)
    pairs = zip(weights, zip(*grams, strict=True), strict=True)
    found = [regmean(of_part, seen, shares, settings.shrink) for of_part, seen in pairs]
    yield np.ravel(layer.tensor(found)).astype(parts.dtype)
