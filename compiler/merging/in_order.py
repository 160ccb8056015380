"""RegMean in order: layer by layer, for the inputs that the merged model gives it, toward what each model's layer gave.

    min_W,b  sum_k s_k E || W x'_k + b - (W_k x_k + b_k + r_k - r'_k) ||^2        x', r': in the merged model so far

RegMean solves every layer for the inputs of the models that are merged, which the merged model does not have. Here each
layer takes over what those before it left of an error, also on the branch r that is added to its outputs (the idea of
He, Zhang, Sun 2017 for pruning, and of RegMean++ for merging). How far weights may leave the average is
chosen by cross validation (passes/solvers/toward.py). Tensors of the merged model are held in memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.rows import Rows, rows_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress
from lwc.compiler.data import Calibration
from lwc.compiler.merging.align import Aligned
from lwc.compiler.merging.evidence import named_for, reader_of
from lwc.compiler.merging.layers import Floats, Layer
from lwc.compiler.merging.sinks import Sink, sink_of
from lwc.compiler.merging.stream import put
from lwc.passes.solvers.toward import Pairs, solved_toward

Folds = tuple[Pairs, Pairs]
Values = Mapping[str, NDArray[Any]]

ROWS = 1 << 16  # of each model, or so many times its inputs if that is more; at least LEAST_ROWS of every sample
ROWS_PER_INPUT = 16
LEAST_ROWS = 64


@dataclass(frozen=True, eq=False)
class Place:
    """A layer in one model. source: its first activation;  weight: of the parts, [out, in] each"""

    source: ir.Value
    rows: Rows
    weights: Sequence[NDArray[Any]]
    sink: Sink
    bias: Floats

    @property
    def read(self) -> tuple[ir.Value, ...]:
        """What has to be known of a run."""
        return (self.source,) if self.sink.branch is None else (self.source, self.sink.branch)


@dataclass(frozen=True, eq=False)
class Solver:
    """aligned: models without a base;  merged: the average, its tensors in memory; solved layers are put into it

    samples: of each model;  shares: how much each counts;  free: names of vectors that may be solved as biases
    """

    aligned: Aligned
    merged: Model
    samples: Sequence[Calibration]
    shares: Sequence[float]
    free: Collection[str]

    def solve(self, layers: Sequence[Layer], progress: Progress) -> int:
        """Solve these, in the order of the graph; how many were better solved than averaged."""
        index = {node: k for k, node in enumerate(self.aligned.models[0].graph)}
        ordered = sorted(layers, key=lambda layer: index[layer.readers[0][0]])
        progress.stage("Solving layers in order", len(ordered))
        solved = 0
        for _, alike in groupby(ordered, key=_source):
            together = list(alike)
            solved += sum(self._solve_together(together))
            progress.advance(len(together))
        return solved

    def _solve_together(self, layers: Sequence[Layer]) -> list[bool]:
        """Layers that read the same activation: none changes what another reads."""
        here = [self._place(layer, self.merged, 0, merged=True) for layer in layers]
        folds: list[list[Folds]] = [[] for _ in layers]
        for layer, place, of_parts in zip(layers, here, folds, strict=True):
            for weight in place.weights:
                width = layer.view.columns + (place.sink.bias is not None)
                of_parts.append((Pairs.none(len(weight), width), Pairs.none(len(weight), width)))
        for k, model in enumerate(self.aligned.models):
            theirs = [self._place(layer, model, k) for layer in layers]
            self._add(k, model, here, theirs, folds)
        return [self._put(layer, place, found) for layer, place, found in zip(layers, here, folds, strict=True)]

    def _place(self, layer: Layer, model: Model, k: int, merged: bool = False) -> Place:
        node = layer.readers[k][0]
        if merged:
            node = model.by_name()[node.name or ""]
        rows = rows_of(node)
        assert rows is not None
        source = node.inputs[rows[0]]
        weight = node.inputs[layer.view.index]
        assert source is not None
        assert weight is not None
        assert weight.const_value is not None
        weights = layer.matrices(weight.const_value.numpy())
        outputs = sum(map(len, weights))
        sink = sink_of(node, outputs)
        first = sink_of(layer.readers[0][0], outputs)
        free = first.bias is not None and first.bias.name in self.free and sink.bias is not None
        bias = np.zeros(outputs)
        if free and sink.bias is not None and sink.bias.const_value is not None:
            bias = sink.bias.const_value.numpy().astype(np.float64).reshape(-1)
        return Place(source, rows[1], weights, Sink(sink.bias if free else None, sink.branch), bias)

    def _add(
        self, k: int, model: Model, here: Sequence[Place], theirs: Sequence[Place], folds: Sequence[Sequence[Folds]]
    ) -> None:
        """What the k-th model's samples say of these layers: even ones to one fold, odd ones to the other."""
        samples, share = self.samples[k], math.sqrt(self.shares[k])
        runs = zip(_runs(self.merged, here, samples), _runs(model, theirs, samples), strict=True)
        for number, (now, wanted) in enumerate(runs):
            for mine, own, of_parts in zip(here, theirs, folds, strict=True):
                limit = _limit(len(samples), mine.weights[0].shape[1])
                inputs = _stacked(mine.rows.of(now[mine.source.name or ""], limit, np.random.default_rng(number)))
                targets = _targets(mine, own, now, wanted, limit, number)
                for x, y, fold in zip(inputs, targets, of_parts, strict=True):
                    rows = x if mine.sink.bias is None else np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1)
                    fold[number % 2].add(share * rows, share * y)

    def _put(self, layer: Layer, place: Place, folds: Sequence[Folds]) -> bool:
        """The solved layer in place of the average, where that is better for some part."""
        weights, biases, better = [], [], False
        for weight, bias, of_part in zip(place.weights, _split(place), folds, strict=True):
            exact = weight.astype(np.float64)
            whole = exact if place.sink.bias is None else np.concatenate([exact, bias[:, None]], axis=1)
            found = solved_toward(whole, of_part)
            better |= found is not None
            whole = whole if found is None else found
            weights.append(whole[:, : exact.shape[1]])
            biases.append(whole[:, exact.shape[1] :])
        if better:
            value = self.merged.by_name()[layer.readers[0][0].name or ""].inputs[layer.view.index]
            put(value, layer.tensor(weights))
            if place.sink.bias is not None:
                put(place.sink.bias, np.concatenate(biases))
        return better


def _source(layer: Layer) -> ir.Value | None:
    node = layer.readers[0][0]
    rows = rows_of(node)
    return None if rows is None else node.inputs[rows[0]]


def _limit(samples: int, inputs: int) -> int:
    return max(LEAST_ROWS, math.ceil(max(ROWS, ROWS_PER_INPUT * inputs) / samples))


def _runs(model: Model, places: Sequence[Place], samples: Calibration) -> Iterator[Values]:
    """What these layers read, by name, sample by sample."""
    return map(reader_of(model, (value for place in places for value in place.read)), named_for(samples, model).feeds())


def _targets(
    mine: Place, own: Place, now: Values, wanted: Values, limit: int, number: int
) -> list[NDArray[Any]]:
    """What every part of the merged layer should give, [n, out]: the model's own outputs, and what its branch has more.

    number: of the sample; rows are drawn by it, the same in both models
    """
    seen = _stacked(own.rows.of(wanted[own.source.name or ""], limit, np.random.default_rng(number)))
    outputs = np.concatenate([x @ weight.T for x, weight in zip(seen, own.weights, strict=True)], axis=1) + own.bias
    if mine.sink.branch is not None and own.sink.branch is not None:
        more = wanted[own.sink.branch.name or ""] - now[mine.sink.branch.name or ""]
        more = np.moveaxis(more, 1, -1) if own.rows.kind == "conv" else more
        if more.shape[-1] == outputs.shape[1]:
            drawn = Rows("last").of(more, limit, np.random.default_rng(number))
            outputs = outputs + drawn if len(drawn) == len(outputs) else outputs
    return np.split(outputs, len(own.weights), axis=1)


def _stacked(rows: NDArray[Any]) -> NDArray[Any]:
    """[parts, n, in]"""
    return rows if rows.ndim == 3 else rows[None]


def _split(place: Place) -> list[Floats]:
    return np.split(place.bias, len(place.weights))
