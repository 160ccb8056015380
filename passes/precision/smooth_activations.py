"""Outliers of activation channels go into the weights that read them: SmoothQuant, with shift, and RepQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import Names, add_initializer, is_op, new_node, site
from lwc.passes.fuse.linear import linear_of
from lwc.passes.precision.channels import Reader, Use, rows_are_outputs, uses_of
from lwc.passes.precision.rescale import (
    Source,
    edits_of_reader,
    edits_of_source,
    magnitudes,
    per_channel,
    source_of,
    takes_shift,
)
from lwc.passes.solvers.scaling import (
    Smoothing,
    common_tails,
    outlier_suppression,
    repq,
    smooth_quant,
    smooth_search,
)

Method = Literal["outliers", "search", "alpha", "repq"]

# Ranges per channel that fewer positions show do not hold on new data (16 positions of ppocr-cls's gates: one layer
# from 34 dB to 15 dB).
_LEAST_POSITIONS = 256

# Marks a node whose output was smoothed: the statistics it was done by say nothing about it any more.
SMOOTHED_KEY = "lwc.smoothed"


@dataclass(frozen=True)
class SmoothActivations(Pass):
    """x' = (x - z) / s      W' = W diag(s)      b' = b + W z      so that  W' x' + b' = W x + b

    for x made by a LayerNormalization or a linear layer, whose own constants take the division (see `rescale`), and
    read by linear layers with constant weights, directly or through operators that channels pass (see `channels`).
    A shift only where all readers have a bias to take it, no padding, and nothing but moves of values lies between.
    s and z from least and greatest values per channel of `ctx.stats` (SmoothQuant, Xiao et al. 2022; Outlier
    Suppression+, Wei et al. 2023; RepQ-ViT, Li et al. 2023). Statistics of the values are stale afterwards; a node
    is done once. Scope: main graph.

    sites: names of the nodes that make x, see `smoothable`
    method: 'outliers': `outlier_suppression` within `common_tails`;  'search': the alpha of `smooth_search`; both where
        all readers are matrices over exactly these channels
        'alpha': SmoothQuant's formula with `alpha`;  'repq': one scale per tensor for what was one per channel
    shift: move the middle of each channel to zero;
    restore: other readers get x' s + z from a Mul and an Add of their own (residual connections behind a
        normalization need it), instead of being a reason to skip
    """

    name: ClassVar[str] = "smooth-activations"
    sites: tuple[str, ...] = ()
    method: Method = "outliers"
    alpha: float = 0.5
    shift: bool = True
    restore: bool = False

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        stats = {known.name: layer for known, layer in ctx.stats.items()}
        names, wanted = Names(model), frozenset(self.sites)
        changed: list[Site] = []
        skipped: list[Skip] = []
        for node in list(model.graph):
            if node.name not in wanted or SMOOTHED_KEY in node.metadata_props:
                continue
            group = _group_of(node, self.restore)
            reason = group if isinstance(group, str) else self._smooth(group, stats, names)
            if reason or isinstance(group, str):
                skipped.append(Skip(site(node), reason))
            else:
                changed += [site(node), *(site(reader.node) for reader in group.readers)]
        return Outcome(tuple(dict.fromkeys(changed)), tuple(skipped))

    def _smooth(self, group: _Group, stats: Mapping[str, LayerStats], names: Names) -> str:
        """Smooth one group; the reason when it cannot be."""
        activation = _activation(group, stats)
        if isinstance(activation, str):
            return activation
        smoothing = self._choose(group, activation)
        if isinstance(smoothing, str):
            return smoothing
        edits = edits_of_source(group.source, smoothing)
        edits += [edit for reader in group.readers for edit in edits_of_reader(reader, smoothing)]
        if not all(edit.fits() for edit in edits):
            return "the weights would overflow their type"
        for edit in edits:
            edit.apply(names)
        if group.others:
            _restore(group.source, smoothing, group.others, names)
        group.source.node.metadata_props[SMOOTHED_KEY] = self.method
        return ""

    def _choose(self, group: _Group, at: _Activation) -> Smoothing | str:
        """The smoothing, or why this method has none here."""
        shift = self.shift and group.source.takes_shift and all(takes_shift(reader) for reader in group.readers)
        if self.method == "repq":
            found = repq(at.low, at.high)
            return found if shift else Smoothing(found.scale, np.zeros(len(found.scale)))
        if self.method == "alpha":
            return smooth_quant(at.low, at.high, _largest_weights(group)[None], self.alpha, shift=shift)
        weight = _stacked_weight(group)
        if weight is None or at.gram is None or at.deviation is None:
            return "its readers are no matrices over its channels: only methods without a search apply"
        if self.method == "search":
            found = smooth_search(at.low, at.high, at.mean, weight, at.gram, shift=shift)
        else:
            low, high = common_tails(at.low, at.high, at.mean, at.deviation)
            found = outlier_suppression(low, high, at.mean, weight, at.gram, shift=shift)
        return found if found.does_something() else "no scale that was tried loses less"


def smoothable(model: ir.Model, *, restore: bool = False) -> tuple[str, ...]:
    """Names of the nodes whose output `SmoothActivations` can smooth, given statistics, in order."""
    return tuple(node.name or "" for node in model.graph if isinstance(_group_of(node, restore), _Group))


def read_by(model: ir.Model, name: str, *, restore: bool = False) -> tuple[Site, ...]:
    """The layers that take back the scales of a smoothable node: whose statistics `SmoothActivations` looks at."""
    node = next((node for node in model.graph if node.name == name), None)
    group = "" if node is None else _group_of(node, restore)
    return () if isinstance(group, str) else tuple(site(reader.node) for reader in group.readers)


@dataclass(frozen=True, eq=False)
class _Group:
    """A node, the linear layers that read it, and uses that must see its output as it was."""

    source: Source
    readers: tuple[Reader, ...]
    others: tuple[Use, ...]


def _group_of(node: ir.Node, restore: bool) -> _Group | str:
    source = source_of(node)
    if source is None:
        return f"{node.op_type} is neither a normalization nor a linear layer with constant parameters"
    if source.value.is_graph_output():
        return "its result is an output of the model"
    uses = uses_of(source.value, source.index)
    readers = tuple(reader for use in uses for reader in use.readers)
    others = tuple(use for use in uses if use.reason)
    if others and not restore:
        return others[0].reason
    return _Group(source, readers, others) if readers else "no layer reads it"


@dataclass(frozen=True, eq=False)
class _Activation:
    """Of what the readers read, by channel of the source: [channels] each; gram: [channels, channels]."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64] | None = None
    gram: NDArray[np.float64] | None = None


def _activation(group: _Group, stats: Mapping[str, LayerStats]) -> _Activation | str:
    """From the first reader with statistics of each of its inputs, or why there is none."""
    channels = group.source.channels
    for reader in group.readers:
        layer = stats.get(reader.node.name or "")
        tensor = layer.inputs[0] if layer is not None else None
        if layer is None or tensor is None or tensor.axis is None or not _is_feature_axis(reader, tensor.axis):
            continue
        low, high, mean = tensor.channel_minimum, tensor.channel_maximum, tensor.channel_mean
        if low is None or high is None or mean is None or len(low) != len(reader.channels):
            continue
        if tensor.count < _LEAST_POSITIONS * len(low):
            return f"only {tensor.count // len(low)} positions were seen; {_LEAST_POSITIONS} are needed"
        if _is_identity(reader, channels):
            square = tensor.channel_square
            variance = None if square is None else np.maximum(square - np.square(mean), 0.0)
            deviation = None if variance is None else np.sqrt(variance)
            return _Activation(low, high, mean, deviation, _gram(layer, mean, variance))
        least, greatest = np.full(channels, np.inf), np.full(channels, -np.inf)
        np.minimum.at(least, reader.channels, low)
        np.maximum.at(greatest, reader.channels, high)
        if np.isfinite(least).all():
            return _Activation(least, greatest, np.zeros(channels))
    return "there are no statistics per channel of what its readers read"


def _is_feature_axis(reader: Reader, axis: int) -> bool:
    """Whether statistics along this axis are of the channels that the layer's weight multiplies."""
    value = reader.node.inputs[0]
    axes = len(value.shape) if value is not None and value.shape is not None else None
    if is_op(reader.node, "Conv", "ConvTranspose"):
        return axis == 1
    return axis == -1 or (axes is not None and axis == axes - 1)


def _is_identity(reader: Reader, channels: int) -> bool:
    return np.array_equal(reader.channels, np.arange(channels))


def _gram(
    layer: LayerStats, mean: NDArray[np.float64], variance: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """E[x x^T], as measured; else of channels that are independent: m m^T + diag(variance)."""
    if layer.gram is not None and layer.gram.shape == (len(mean), len(mean)):
        return layer.gram
    if variance is None:
        return None
    independent: NDArray[np.float64] = np.outer(mean, mean) + np.diag(variance)
    return independent


def _stacked_weight(group: _Group) -> NDArray[np.float64] | None:
    """Weights of all readers as one [out, channels] matrix; None when one of them is no matrix over these channels."""
    rows: list[NDArray[np.float64]] = []
    for reader in group.readers:
        layer = linear_of(reader.node)
        assert layer is not None
        if layer.node.op_type == "ConvTranspose" or not _is_identity(reader, group.source.channels):
            return None
        if any(size != 1 for size in layer.weight.shape[2:]) or layer.node.attributes.get_int("group", 1) != 1:
            return None
        matrix = layer.weight.reshape(layer.weight.shape[:2]).astype(np.float64)
        rows.append(matrix if rows_are_outputs(layer) else matrix.T)
    return np.concatenate(rows)


def _largest_weights(group: _Group) -> NDArray[np.float64]:
    """The largest |weight| that any reader has for each channel."""
    largest = np.zeros(group.source.channels)
    for reader in group.readers:
        layer = linear_of(reader.node)
        assert layer is not None
        inputs = magnitudes(layer).max(axis=1).reshape(-1)
        largest = np.maximum(largest, per_channel(reader, inputs, len(largest)))
    return largest


def _restore(source: Source, smoothing: Smoothing, uses: Sequence[Use], names: Names) -> None:
    """Give `uses` the value as it was: x' s, and + z where there is a shift."""
    value, maker = source.value, source.value.producer()
    assert maker is not None
    assert maker.graph is not None
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    parts = [("Mul", smoothing.scale)] + ([("Add", smoothing.shift)] if smoothing.shift.any() else [])
    restored, after = value, maker
    for op, numbers in parts:
        name = names.claim(f"{value.name}.{'unscaled' if op == 'Mul' else 'restored'}")
        array = numbers.reshape(source.index.shape).astype(dtype)
        operand = add_initializer(maker.graph, names.claim(f"{name}.factor" if op == "Mul" else f"{name}.shift"), array)
        node = new_node(op, [restored, operand])
        node.name, node.outputs[0].name = name, name
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        maker.graph.insert_after(after, node)
        restored, after = node.outputs[0], node
    for use in uses:
        use.node.replace_input_with(use.position, restored)
