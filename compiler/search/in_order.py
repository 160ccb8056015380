"""Layers of a pruned model solved again, one after the other, toward what each gave in the model before.

What least squares does where channels leave knows the inputs of the unpruned model; behind other pruned layers they
are not what they were. Here each layer sees its inputs as they are by then, and takes over what came before it: one
sixth to one twentieth of the error of least squares alone on small CNNs. No labels, no training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.rows import Rows, rows_of
from lwc.compiler.analysis.sites import macs
from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.accumulate import GRAM_FEATURES
from lwc.compiler.core.backend import Feeds, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.threads import one_blas_thread
from lwc.passes.edit import Array, constant_array, is_op
from lwc.passes.solvers.toward import Pairs, solved_toward
from lwc.passes.sparsity.layer import output_axis
from lwc.passes.sparsity.shrink import replace_tensor

log = logging.getLogger(__name__)

MULTIPLY_ADDS = 4e12  # of all the runs together: a minute or two on two cores
FEWEST, MOST = 8, 64  # samples
ROWS_PER_INPUT = 6  # that a layer is solved on, of all samples together
FEWEST_ROWS = 4096
ROWS_TOGETHER = 2048  # that are multiplied at once: products of few rows are bound by memory

Open = Callable[[Model, Sequence[str]], Session]
Masks = Mapping[tuple[str, int], NDArray[np.bool_]]


class Samples(Protocol):
    """Complete sets of inputs by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Feeds: ...


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer with a weight of its own. read: the value it multiplies;  bias: a constant [out] that is added, if any"""

    node: ir.Node
    rows: Rows
    read: str
    weight: ir.Value
    view: WeightView
    bias: ir.Value | None

    @property
    def matrix(self) -> Array:
        """[out, in]"""
        array = constant_array(self.weight)
        assert array is not None
        return self.view.matrix(array)

    def outputs(self, inputs: Array) -> Array:
        """What it gives for rows [n, in]: [n, out], in float32."""
        bias = constant_array(self.bias)
        product = inputs.astype(np.float32) @ self.matrix.T.astype(np.float32)
        return product if bias is None else product + bias.reshape(-1)


def refit_in_order(
    student: Model, teacher: Model, keep: Masks, samples: Samples, open_: Open, each: Callable[[], None] = lambda: None
) -> Model:
    """A fork of the student whose layers behind the first change gave way as far as that helps.

    keep: by value of the teacher and axis, which positions the student still has
    open_: a session of a model that returns these values too;  each: called after every layer
    """
    fork = student.fork()
    before = {layer.node.name: layer for layer in _layers(teacher)}
    layers = [layer for layer in _layers(fork) if layer.node.name in before]
    behind = _behind_changes(fork, teacher)
    layers = [layer for layer in layers if layer.node in behind and layer.view.columns <= GRAM_FEATURES]
    seen = [samples[i] for i in range(_affordable(teacher, len(layers), len(samples)))]
    with one_blas_thread():
        for layer in layers:
            found = _pairs(layer, before[layer.node.name], fork, teacher, keep, seen, open_)
            if found is not None:
                _solve(layer, found)
            each()
    return fork


def _layers(model: Model) -> Iterator[_Layer]:
    """In graph order."""
    for node in model.graph:
        found = rows_of(node) if is_op(node, "Conv", "Gemm", "MatMul") else None
        view = next((view for view in weight_views(node) if view.sees_activation), None)
        if found is None or view is None or found[1].groups > 1 or not node.name:
            continue
        weight, read = node.inputs[view.index], node.inputs[found[0]]
        plain = all(node.attributes.get_float(factor, 1.0) == 1.0 for factor in ("alpha", "beta"))
        if plain and weight is not None and read is not None and _is_own(weight):
            yield _Layer(node, found[1], read.name or "", weight, view, _bias(node, view))


def _bias(node: ir.Node, view: WeightView) -> ir.Value | None:
    """The constant [out] that is added to a layer's outputs and to nothing else."""
    unit = unit_of(node)
    bias = unit.bias if isinstance(unit, Unit) and unit.weight == view.index else None
    array = constant_array(bias)
    fits = array is not None and array.size == view.rows == array.shape[-1]
    return bias if bias is not None and fits and _is_own(bias) else None


def _is_own(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output() and constant_array(value) is not None


def _behind_changes(student: Model, teacher: Model) -> set[ir.Node]:
    """Nodes that a constant unlike the teacher's reaches."""
    known = {id(value.const_value) for value in teacher.graph.initializers.values()}
    changed: set[ir.Value] = {v for v in student.graph.initializers.values() if id(v.const_value) not in known}
    found = set()
    for node in student.graph:
        if any(value in changed for value in node.inputs):
            found.add(node)
            changed.update(node.outputs)
    return found


def _affordable(teacher: Model, layers: int, samples: int) -> int:
    """Samples that the multiply-adds allow: every layer runs both models once, up to it."""
    work = max(1, sum(macs(node) for node in teacher.graph) * layers)
    return min(samples, max(FEWEST, min(MOST, int(MULTIPLY_ADDS / work))))


def _pairs(
    now: _Layer, before: _Layer, student: Model, teacher: Model, keep: Masks, samples: Sequence[Feeds], open_: Open
) -> tuple[Pairs, Pairs] | None:
    """Inputs as they come now, with a constant 1 where there is a bias, and outputs wanted: by every other sample.

    None where rows of the two are not of the same positions.
    """
    left = _kept_outputs(before, keep)
    ones = int(now.bias is not None)
    folds = (Pairs.none(now.view.rows, now.view.columns + ones), Pairs.none(now.view.rows, now.view.columns + ones))
    most = max(FEWEST_ROWS, ROWS_PER_INPUT * now.view.columns) // max(1, len(samples))
    sessions = [_up_to(model, layer.read, open_) for model, layer in ((student, now), (teacher, before))]
    for fold, numbers in _turns(len(samples), max(1, ROWS_TOGETHER // max(1, most))):
        found = [_rows(sessions, (now, before), samples[number], number, most) for number in numbers]
        if any(len(given) != len(seen) or given.shape[1] != now.view.columns for given, seen in found):
            return None
        given, seen = (np.concatenate(rows) for rows in zip(*found, strict=True))
        wanted = before.outputs(seen)[:, left]
        if before.bias is not None and now.bias is None:
            wanted -= np.asarray(constant_array(before.bias)).reshape(-1)[left]
        if wanted.shape[1] != now.view.rows:
            return None
        folds[fold].add(np.pad(given, ((0, 0), (0, ones)), constant_values=1.0), wanted)
    return folds


def _turns(samples: int, together: int) -> Iterator[tuple[int, range]]:
    """Every other sample is of fold 0, up to so many at a time; the others are of fold 1."""
    for fold in (0, 1):
        for first in range(fold, samples, 2 * together):
            yield fold, range(first, min(first + 2 * together, samples), 2)


def _rows(
    sessions: Sequence[Session], layers: tuple[_Layer, _Layer], sample: Feeds, seed: int, most: int
) -> tuple[Array, Array]:
    """Of one sample, at most so many rows [n, in] that each layer reads, of the same positions for both."""
    now, before = (
        layer.rows.of(session.run(sample)[layer.read], most, np.random.default_rng(seed))
        for session, layer in zip(sessions, layers, strict=True)
    )
    return now, before


def _kept_outputs(before: _Layer, keep: Masks) -> NDArray[np.bool_]:
    """Which outputs of the teacher's layer the student's still has."""
    whole = np.ones(before.view.rows, np.bool_)
    return keep.get((before.node.outputs[0].name or "", output_axis(before.node, before.view)), whole)


def _up_to(model: Model, name: str, open_: Open) -> Session:
    """A session that computes one value, and no more than it takes."""
    fork = model.fork()
    value = next(
        value
        for value in (*fork.graph.inputs, *(v for node in fork.graph for v in node.outputs))
        if value.name == name
    )
    if value.producer() is None:
        return _Fed()
    fork.graph.outputs.clear()
    fork.graph.outputs.append(value)
    return open_(fork, ())


class _Fed:
    """Gives inputs as they are."""

    inputs = outputs = ()

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(feeds)


def _solve(layer: _Layer, folds: tuple[Pairs, Pairs]) -> None:
    """Write the weight and the bias that are better on samples unseen; leave them where nothing is."""
    now, bias = layer.matrix.astype(np.float64), constant_array(layer.bias)
    if bias is not None:
        now = np.concatenate([now, bias.reshape(-1, 1)], axis=1)
    new = solved_toward(now, folds)
    if new is None:
        return
    log.debug("%s: error %.3g of what it was", layer.node.name, (folds[0] + folds[1]).error(new))
    if bias is not None and layer.bias is not None:
        replace_tensor(layer.bias, new[:, -1].reshape(bias.shape).astype(bias.dtype))
        new = new[:, :-1]
    array = constant_array(layer.weight)
    assert array is not None
    replace_tensor(layer.weight, layer.view.back(new).reshape(array.shape).astype(array.dtype))
