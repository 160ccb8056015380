"""Losses guessed from layers alone: cheaper than running what is behind them, and good enough for a first order.

    gram          (tr(E H E^T) + s_x^2 ||W||^2 + n s_y^2) / tr(W H W^T)             E = W' - W, H = E[x x^T]
    correlation   1 - rho(y, y')                                                    y, y': the layer before and after
    first-order   ||J d||^2 ||y' - y||^2 / ||d||^2                                  d: error of the first choice

All are per (site, choice) and rank choices; only the last is in the unit of the measured losses. Gram-weighted error
is the layer objective of GPTQ (Frantar et al. 2022) relative to the layer's power, with the noise of quantized
activations added (s^2: mean squared error of their histogram). Correlation is CPTQuant's first measure (2024), with
Pearson's in place of the canonical correlation: one layer before and after has its channels paired already. First
order is its Taylor measure without gradients: the response J d of the model's outputs to the error d that a site's
first choice makes at the layer, on two samples, scaled to the error that each other choice makes there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from lwc.compiler.analysis.units import Unit, array_of, unit_of
from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.plan import (
    Choice,
    DynamicInt8,
    Float,
    Float8,
    Range,
    Site,
    StaticInt8,
    WeightOnly,
)
from lwc.compiler.core.stats import LayerStats, TensorStats
from lwc.compiler.search.job import Job
from lwc.compiler.search.local import LocalRuns, first_samples, relative_noise
from lwc.compiler.search.partial import PartialRuns
from lwc.passes.solvers.clipping import quantization_error
from lwc.passes.solvers.rounding import dequantize, quantize_per_channel

Losses = dict[tuple[Site, Choice], float]
Floats = NDArray[np.float64]

LEVELS = 256
SAMPLES = 2  # that layers are run on
# Types that values are cast to, and the distance from one to the next number.
_CAST: Mapping[str, tuple[DTypeLike, float]] = {"fp16": (np.float16, 2.0**-10), "bf16": (ml_dtypes.bfloat16, 2.0**-7)}
_FLOAT8: Mapping[str, tuple[DTypeLike, float]] = {  # and the largest number
    "e4m3": (ml_dtypes.float8_e4m3fn, 448.0),
    "e5m2": (ml_dtypes.float8_e5m2, 57344.0),
}


@dataclass(frozen=True)
class Evidence:
    """What cheap methods may look at.

    options: choices of every site;  stats: with Gram matrices, of sites with weights
    values: statistics of what static int8 quantizes, by name
    """

    job: Job
    options: Mapping[Site, Sequence[Choice]]
    stats: Mapping[Site, LayerStats]
    values: Mapping[str, TensorStats]

    def pairs(self) -> Iterator[tuple[Site, Choice]]:
        return ((site, choice) for site, choices in self.options.items() for choice in choices)


def gram(evidence: Evidence) -> Losses:
    """Noise power at the layer's output by its weights and activations, relative to its output's power."""
    nodes = evidence.job.model.by_name()
    losses: Losses = {}
    for site, choice in evidence.pairs():
        changed = not isinstance(choice, Float)
        losses[site, choice] = _gram_loss(evidence, nodes[site.name], site, choice) if changed else 0.0
    return losses


def correlation(evidence: Evidence) -> Losses:
    """One minus the correlation of the layer's output with what the choice makes of it, mean over samples."""
    losses: Losses = {}
    with closing(LocalRuns(first_samples(evidence.job, SAMPLES))) as local:
        for site, choice in evidence.pairs():
            found = [] if isinstance(choice, Float) else local.outputs(site, choice)
            losses[site, choice] = float(np.mean([1.0 - _pearson(y, z) for y, z in found])) if found else 0.0
    return losses


def first_order(evidence: Evidence) -> Losses:
    """What the site's first choice does to the model's outputs, times the error of each choice over that one's."""
    losses: Losses = {}
    few = first_samples(evidence.job, SAMPLES)
    with closing(PartialRuns(few)) as runs, closing(LocalRuns(few)) as local:
        for site, choices in evidence.options.items():
            changed = [choice for choice in choices if not isinstance(choice, Float)]
            errors = {choice: _error(local, site, choice) for choice in changed if len(changed) > 1}
            response = runs.loss(((site, changed[0]),)) if changed else 0.0
            for choice in choices:
                relative = errors[choice] / max(errors[changed[0]], 1e-30) if choice in errors else 1.0
                losses[site, choice] = response * relative if choice in changed else 0.0
    return losses


def _error(local: LocalRuns, site: Site, choice: Choice) -> float:
    found = [relative_noise(y, z) for y, z in local.outputs(site, choice)]
    return float(np.mean(found)) if found else 1.0


METHODS: tuple[tuple[str, Callable[[Evidence], Losses]], ...] = (
    ("gram", gram),
    ("correlation", correlation),
    ("first-order", first_order),
)


def _gram_loss(evidence: Evidence, node: ir.Node, site: Site, choice: Choice) -> float:
    unit = unit_of(node)
    inputs = [evidence.values.get(value.name or "") for value in unit.operands()] if isinstance(unit, Unit) else []
    output = evidence.values.get(unit.output.name or "") if isinstance(unit, Unit) else None
    ranges = evidence.job.ranges
    noises = [_activation_noise(choice, x, ranges.get(_name(unit, k))) for k, x in enumerate(inputs)]
    written = _output_noise(choice, output, ranges.get(unit.output.name or "") if isinstance(unit, Unit) else None)
    stats = evidence.stats.get(site)
    view = next((view for view in weight_views(node) if view.sees_activation), None)
    if view is None or stats is None or stats.gram is None:
        relative = [noise / max(_power(x), 1e-30) for noise, x in zip(noises, inputs, strict=True) if x is not None]
        return sum(relative) + (written / max(_power(output), 1e-30) if output is not None else 0.0)
    weight, hessian = _matrices(node, view, stats.gram)
    error = _rounded(weight, choice) - weight
    power = _quadratic(weight, hessian)
    noise = _quadratic(error, hessian) + sum(noises) * float(np.square(weight).sum())
    return float((noise + written * weight.shape[0] * weight.shape[1]) / max(power, 1e-30))


def _quadratic(matrix: Floats, hessian: Floats) -> float:
    """tr(M H M^T), summed over groups. matrix: [groups, out, in];  hessian: [groups, in, in]."""
    return float(np.vdot(matrix @ hessian, matrix))


def _name(unit: Unit | str, index: int) -> str:
    return unit.operands()[index].name or "" if isinstance(unit, Unit) else ""


def _matrices(node: ir.Node, view: WeightView, gram: Floats) -> tuple[Floats, Floats]:
    """Weight [groups, out, in] and Gram matrix [groups, in, in]."""
    value = node.inputs[view.index]
    assert value is not None
    hessian = gram if gram.ndim == 3 else gram[None]
    matrix = view.matrix(array_of(value)).astype(np.float64)
    return matrix.reshape(len(hessian), -1, matrix.shape[-1]), hessian


def _rounded(weight: Floats, choice: Choice) -> Floats:
    """The weight in the choice's format, every value rounded to the nearest."""
    flat = weight.reshape(-1, weight.shape[-1]).astype(np.float32)
    dtype: DTypeLike
    if choice.name in _CAST:
        dtype, _ = _CAST[choice.name]
        return np.asarray(flat.astype(dtype), np.float64).reshape(weight.shape)
    if isinstance(choice, Float8):
        dtype, largest = _FLOAT8[choice.format]
        step = float(np.abs(flat).max(initial=1e-30)) / largest
        return np.asarray((flat / step).astype(dtype), np.float64).reshape(weight.shape) * step
    bits = choice.bits if isinstance(choice, WeightOnly) else 8
    symmetric = choice.symmetric if isinstance(choice, WeightOnly) else True
    group = (choice.group if isinstance(choice, WeightOnly) else 0) or flat.shape[1]
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % group))).reshape(-1, group)
    codes, scale, zero = quantize_per_channel(padded, 0, bits=bits, symmetric=symmetric)
    rounded = dequantize(codes, scale, zero, 0).reshape(len(flat), -1)[:, : flat.shape[1]]
    return rounded.astype(np.float64).reshape(weight.shape)


def _activation_noise(choice: Choice, x: TensorStats | None, range_: Range | None) -> float:
    """Mean squared error of one activation that the choice quantizes."""
    if x is None:
        return 0.0
    if isinstance(choice, StaticInt8) and range_ is not None:
        return quantization_error(x, range_, LEVELS)
    if isinstance(choice, DynamicInt8):
        return ((x.maximum - x.minimum) / (LEVELS - 1)) ** 2 / 12
    if choice.name in _CAST:
        return _CAST[choice.name][1] ** 2 / 24 * _power(x)  # evenly spread in half a step, which is relative
    return 0.0


def _output_noise(choice: Choice, y: TensorStats | None, range_: Range | None) -> float:
    if y is None or range_ is None or not isinstance(choice, StaticInt8):
        return 0.0
    return quantization_error(y, range_, LEVELS)


def _power(stats: TensorStats | None) -> float:
    return 0.0 if stats is None else stats.variance + stats.mean**2


def _pearson(y: Floats, z: Floats) -> float:
    a, b = y - y.mean(), z - z.mean()
    norms = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norms if norms > 0 else float(np.array_equal(a, b))
