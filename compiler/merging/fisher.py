"""Averages in which each weight counts as much as it matters to its model; see passes/solvers/importance.py.

Importance here takes no gradient: it is the mean square of the input that a weight multiplies, the diagonal of the
layer's Gram matrix. Parameters that are no weights of layers of the main graph are averaged, or merged as the recipe
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lwc.compiler.core.model import Model
from lwc.compiler.merging.align import Group
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.evidence import models_of, notes_of, samples_by_model
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.layers import Floats, Layer, find_layers, grams_by_model, look_at
from lwc.compiler.merging.recipe import Settings
from lwc.compiler.merging.stream import streamed
from lwc.passes.solvers.importance import weighted_average
from lwc.passes.solvers.parts import Array, Parts

METHOD = "fisher"


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The models as one. Raises UsageError, BadCalibration."""
    layers = find_layers(job.aligned)
    stats = look_at(layers.values(), models_of(job), samples_by_model(job), job.progress, job.recipe.seed)
    grams = {name: found for name, layer in layers.items() if (found := grams_by_model(layer, stats)) is not None}
    importances = {
        name: [[np.diagonal(gram).copy() for gram in each] for each in of_layer] for name, of_layer in grams.items()
    }

    def merged(group: Group, parts: Parts) -> Iterator[Array]:
        settings = job.recipe.of(group.name)
        if settings.method != METHOD or group.name not in importances:
            return merge_group(job.recipe, group, parts)
        return _averaged(layers[group.name], importances[group.name], parts, settings)

    model = streamed(job.aligned, merged, base=False, on_merged=lambda _: job.progress.advance())
    told = f"{len(importances)} weights were averaged by the mean square of their inputs, which takes no gradient."
    return model, (*notes_of(job), told)


def _averaged(layer: Layer, importances: list[list[Floats]], parts: Parts, settings: Settings) -> Iterator[Array]:
    """importances: [in] of every model and part"""
    shares = settings.shares(len(parts.tensors))
    weights = zip(*(layer.matrices(tensor) for tensor in parts.tensors), strict=True)
    pairs = zip(weights, zip(*importances, strict=True), strict=True)
    found = [weighted_average(of_part, seen, shares) for of_part, seen in pairs]
    yield np.ravel(layer.tensor(found)).astype(parts.dtype)
