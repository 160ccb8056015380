"""Channels permuted to match, then least squares (Nasery, Hayase, Koh, Oh 2024, "PLeaS - Merging Models with
Permutations and Least Squares").

The average of permuted models is solved layer by layer, from the first on: each weight toward the average of what that
layer gives in the models,

    min  E || W x' + b - sum_k w_k (W_k x_k + b_k) ||^2  +  r m || W - W' ||^2

x_k: its inputs in the k-th permuted model;  x': its inputs in the merged one, with all layers before it solved (the
paper takes the average of the x_k, and leaves errors of earlier layers to later ones);  W': the average;  r, m: as in
passes/solvers/toward.py. No labels, no training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.rows import Rows, rows_of
from lwc.compiler.analysis.sites import macs
from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.core.accumulate import GRAM_FEATURES
from lwc.compiler.core.backend import Feeds
from lwc.compiler.core.model import Model
from lwc.compiler.core.skeleton import initialized
from lwc.compiler.data import Calibration
from lwc.compiler.merging.align import Aligned
from lwc.compiler.merging.evidence import SYNTHETIC, all_samples, named_for, open_session, reader_of
from lwc.compiler.merging.job import Job
from lwc.compiler.merging.layers import Layer, find_layers
from lwc.compiler.merging.masks import keep_masks
from lwc.compiler.merging.methods import KEEP
from lwc.compiler.merging.rebasin import averaged, notes_of, ordered
from lwc.compiler.merging.stream import in_memory, put
from lwc.passes.solvers.permutation import Array
from lwc.passes.solvers.toward import Floats, Pairs, solved_toward

MULTIPLY_ADDS = 4e12  # of all the runs together: a minute or two on two cores
FEWEST, MOST = 8, 256  # samples
ROWS_PER_INPUT = 6  # that a layer is solved on, of all samples together
FEWEST_ROWS = 4096
LEAST_ERROR = 1e-6  # of the square of the outputs: sums of products in float32 say nothing of less
OUTPUT_BYTES = 500_000_000  # of layers whose outputs in the models are gathered in one go
TOGETHER = 64  # samples whose rows are multiplied at once: products of few rows are bound by memory


@dataclass(frozen=True, eq=False)
class _Step:
    """A layer to solve. read: the value it multiplies;  weight, bias: places among the initializers"""

    layer: Layer
    node: ir.Node
    rows: Rows
    read: ir.Value
    weight: int
    bias: int | None

    @property
    def columns(self) -> int:
        """Inputs, and the constant 1 that a bias multiplies."""
        return self.layer.view.columns + (self.bias is not None)

    @property
    def name(self) -> str:
        """Of the value that it reads."""
        return self.read.name or ""

    def most(self, samples: int) -> int:
        """Rows to take of one sample."""
        return max(1, max(FEWEST_ROWS, ROWS_PER_INPUT * self.columns) // samples)

    def matrices(self, tensors: Mapping[int, Array]) -> list[Floats]:
        """[out, in] of every group of a convolution, the bias as the last column."""
        found = [matrix.astype(np.float64) for matrix in self.layer.matrices(tensors[self.weight])]
        if self.bias is None:
            return found
        biases = np.split(tensors[self.bias].astype(np.float64).reshape(-1, 1), len(found))
        return [np.concatenate(pair, axis=1) for pair in zip(found, biases, strict=True)]

    def inputs(self, value: Array, most: int, seed: int) -> Array:
        """[groups, n, in] of an activation, with the constant."""
        rows = self.rows.of(value, most, np.random.default_rng(seed))
        rows = rows if rows.ndim == 3 else rows[None]
        return rows if self.bias is None else np.pad(rows, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)


def merge(job: Job) -> tuple[Model, Sequence[str]]:
    """The average of the models in the tidied graph of the first, its layers solved."""
    frame, orders = ordered(job)
    aligned = frame.fits(orders)
    merged = in_memory(averaged(job, aligned))
    samples = all_samples(job)
    steps = [step for step in _steps(aligned) if job.recipe.of(step.layer.group.name).method != KEEP]
    feeds = _spread([named_for(each, frame.model) for each in samples], frame.model, len(steps))
    job.progress.stage("Least squares", len(steps))
    solved = 0
    for step, wanted in _wanted(steps, aligned.models, job.recipe.settings.shares(len(aligned.models)), feeds):
        solved += _solve(step, merged, wanted, feeds)
        job.progress.advance()
    told = f"{solved} of {len(steps)} layers were solved toward what they give in the models, on {len(feeds)} samples."
    masks = keep_masks(merged, aligned, job.recipe, based=False)
    return merged, [*notes_of(frame, orders), told, *masks, *([] if job.calib else [SYNTHETIC])]


def _steps(aligned: Aligned) -> Iterator[_Step]:
    """In the order of the graph. Weights that several layers read stay as they are."""
    model = aligned.models[0]
    place = {value: at for at, (value, _) in enumerate(initialized(model.ir))}
    merged = {group.value for group in aligned.groups}
    by_node = {layer.readers[0][0]: layer for layer in find_layers(aligned).values() if len(layer.readers[0]) == 1}
    for node in model.graph:
        layer, found = by_node.get(node), rows_of(node)
        if layer is None or found is None or layer.view.columns > GRAM_FEATURES:
            continue
        read, bias = node.inputs[found[0]], _bias(node, layer)
        plain = all(node.attributes.get_float(factor, 1.0) == 1.0 for factor in ("alpha", "beta"))
        if plain and read is not None:
            at = place[bias] if bias is not None and bias in merged else None
            yield _Step(layer, node, found[1], read, place[layer.group.value], at)


def _bias(node: ir.Node, layer: Layer) -> ir.Value | None:
    """The constant that is added to the layer's outputs, one for each, and that nothing else reads."""
    unit = unit_of(node)
    bias = unit.bias if isinstance(unit, Unit) and unit.weight == layer.view.index else None
    if bias is None or bias.const_value is None or bias.const_value.size != layer.view.rows:
        return None
    return bias if len(bias.uses()) == 1 else None


def _spread(samples: Sequence[Calibration], model: Model, layers: int) -> list[Feeds]:
    """As many samples as the multiply-adds allow, from all there are: every layer runs the merged model once."""
    work = max(1, sum(macs(node) for node in model.graph) * layers)
    most = max(FEWEST, min(MOST, int(MULTIPLY_ADDS / work)))
    every = [(each, k) for each in samples for k in range(len(each))]
    chosen = ((each, each[k]) for each, k in every[:: -(-len(every) // most)])
    return [{name: sample[name] for name in each.names} for each, sample in chosen]


def _wanted(
    steps: Sequence[_Step], models: Sequence[Model], shares: Sequence[float], feeds: Sequence[Feeds]
) -> Iterator[tuple[_Step, list[Array]]]:
    """Layer by layer, per sample what the models give on average: [groups, n, out]; several layers in one go."""
    weights = [share / sum(shares) for share in shares]
    for some in _together(steps):
        found: dict[_Step, list[Array]] = {step: [] for step in some}
        names = {step.name for step in some if step.read.producer() is not None}
        for k, (model, weight) in enumerate(zip(models, weights, strict=True)):
            session = open_session(model, sorted(names))
            matrices = {
                step: (weight * np.stack(step.matrices(_tensors(step, model)))).astype(np.float32).swapaxes(1, 2)
                for step in some
            }
            for number, sample in enumerate(feeds):
                values = {**sample, **session.run(sample)}
                for step in some:
                    rows = step.inputs(values[step.name], step.most(len(feeds)), number)
                    given = rows.astype(np.float32) @ matrices[step]
                    if k == 0:
                        found[step].append(given)
                    else:
                        found[step][number] += given
        yield from found.items()


def _together(steps: Sequence[_Step]) -> Iterator[list[_Step]]:
    """Layers in their order, as many at a time as outputs fit in memory."""
    some: list[_Step] = []
    held = 0
    for step in steps:
        held += 4 * step.layer.view.rows * max(FEWEST_ROWS, ROWS_PER_INPUT * step.columns)
        if some and held > OUTPUT_BYTES:
            yield some
            some, held = [], 0
        some.append(step)
    if some:
        yield some


def _solve(step: _Step, merged: Model, wanted: Sequence[Array], feeds: Sequence[Feeds]) -> bool:
    """Give the layer the weight and the bias that are better on samples unseen; returns whether there are any."""
    values, tensors = [value for value, _ in initialized(merged.ir)], _tensors(step, merged)
    now = step.matrices(tensors)
    folds = _pairs(step, merged, wanted, feeds, now)
    found = [_solved(matrix, (one, other)) for matrix, one, other in zip(now, *folds, strict=True)]
    if all(new is None for new in found):
        return False
    new = [old if one is None else one for old, one in zip(now, found, strict=True)]
    if step.bias is not None:
        put(values[step.bias], np.concatenate([one[:, -1] for one in new]))
        new = [one[:, :-1] for one in new]
    put(values[step.weight], step.layer.tensor(new))
    return True


def _solved(matrix: Floats, folds: tuple[Pairs, Pairs]) -> Floats | None:
    """None where the average gives what is wanted, but for rounding."""
    both = folds[0] + folds[1]
    return solved_toward(matrix, folds) if both.error(matrix) > LEAST_ERROR * both.power else None


def _pairs(
    step: _Step, merged: Model, wanted: Sequence[Array], feeds: Sequence[Feeds], now: Sequence[Floats]
) -> tuple[list[Pairs], list[Pairs]]:
    """By group of a convolution, inputs as the merged model has them and the outputs wanted.

    Every other sample is of the second fold.
    """
    made = (value for node in merged.graph for value in node.outputs if value.name == step.name)
    read = reader_of(merged, made)
    folds = tuple([Pairs.none(len(one), step.columns) for one in now] for _ in range(2))
    for fold in (0, 1):
        numbers = range(fold, len(feeds), 2)
        for first in range(0, len(numbers), TOGETHER):
            some = numbers[first : first + TOGETHER]
            activations = ((k, read(feeds[k])[step.name]) for k in some)
            given = np.concatenate([step.inputs(x, step.most(len(feeds)), k) for k, x in activations], axis=1)
            outputs = np.concatenate([wanted[k] for k in some], axis=1)
            for group, pairs in enumerate(folds[fold]):
                pairs.add(given[group], outputs[group])
    return folds[0], folds[1]


def _tensors(step: _Step, model: Model) -> dict[int, Array]:
    """The weight and the bias, by place."""
    values = [tensor for _, tensor in initialized(model.ir)]
    return {at: values[at].numpy() for at in (step.weight, step.bias) if at is not None}
