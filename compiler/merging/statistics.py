"""Means and variances of BatchNormalization as the merged model sees them (Izmailov et al. 2018, section 3.1).

The average of batch statistics fits none of the inputs that a merged model gives its normalizations: a variance of
averaged features is smaller than the average of variances. Here the merged model runs over the samples, and each
normalization in turn takes the moments of what it gets, with those before it already set. Scope: the main graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.model import Model
from lwc.compiler.data import Calibration
from lwc.compiler.merging.evidence import all_samples, named_for, reader_of
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.methods import KEEP
from lwc.compiler.merging.stream import in_memory, put
from lwc.passes.solvers.moments import Floats

_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization


def reestimate(job: Job, model: Model) -> tuple[Model, int]:
    """A model with new statistics, its tensors made, and how many normalizations have them. Raises BadCalibration.

    Where no samples are given, or nothing is normalized, the model itself.
    """
    fork = model.fork()
    nodes = list(_normalizations(job, fork)) if job.calib else []
    if not nodes:
        return model, 0
    samples = all_samples(job)
    job.progress.stage("Estimating batch statistics", len(nodes))
    in_memory(fork)
    for node in nodes:
        source = node.inputs[0]
        assert source is not None
        mean, variance = moments(fork, source, samples)
        for index, moment in ((_MEAN, mean), (_VARIANCE, variance)):
            put(node.inputs[index], moment)
        job.progress.advance()
    return fork, len(nodes)


def moments(model: Model, value: ir.Value, samples: Sequence[Calibration]) -> tuple[Floats, Floats]:
    """Mean and variance of every channel (axis 1) of a value over all samples and places, [channels] each."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    read = reader_of(model, [value])
    for own in samples:
        for feeds in named_for(own, model).feeds():
            array = read(feeds)[value.name or ""]
            rows = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]).astype(np.float64)
            count, total, squares = count + len(rows), total + rows.sum(axis=0), squares + np.square(rows).sum(axis=0)
    mean = total / max(1, count)
    return mean, np.maximum(squares / max(1, count) - np.square(mean), 0.0)


def _normalizations(job: Job, model: Model) -> Iterator[ir.Node]:
    """In graph order, those whose statistics were merged and are read by nothing else."""
    merged = {group.name for group in job.aligned.groups if job.recipe.of(group.name).method != KEEP}
    for node in model.graph:
        if node.op_type != "BatchNormalization" or node.domain or node.attributes.get_int("training_mode", 0) != 0:
            continue
        statistics = [node.inputs[index] for index in (_MEAN, _VARIANCE)]
        if all(value is not None and value.name in merged and len(value.uses()) == 1 for value in statistics):
            yield node
