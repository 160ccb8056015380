"""A node whose channels are scaled, the layers that take the scales back, and what was seen of the values between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import is_op, site
from lwc.passes.fuse.linear import linear_of
from lwc.passes.precision.channels import Reader, Use, rows_are_outputs, uses_of
from lwc.passes.precision.rescale import Source, magnitudes, per_channel, source_of


def smoothable(model: ir.Model, *, restore: bool = False) -> tuple[str, ...]:
    """Names of the nodes whose output can be scaled, given statistics, in order."""
    return tuple(node.name or "" for node in model.graph if isinstance(group_of(node, restore), Group))


def read_by(model: ir.Model, name: str, *, restore: bool = False) -> tuple[Site, ...]:
    """The layers that take back the scales of a smoothable node: those whose statistics are looked at."""
    node = next((node for node in model.graph if node.name == name), None)
    group = "" if node is None else group_of(node, restore)
    return () if isinstance(group, str) else tuple(site(reader.node) for reader in group.readers)


@dataclass(frozen=True, eq=False)
class Group:
    """A node, the linear layers that read it, and uses that must see its output as it was."""

    source: Source
    readers: tuple[Reader, ...]
    others: tuple[Use, ...]

    @property
    def site(self) -> Site:
        return site(self.source.node)


def group_of(node: ir.Node, restore: bool) -> Group | str:
    """The group that starts at a node, or why there is none. restore: other readers are no reason."""
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
    return Group(source, readers, others) if readers else "no layer reads it"


@dataclass(frozen=True, eq=False)
class Activation:
    """Of what the readers read, by channel of the source: [channels] each; gram: [channels, channels].

    positions: how many values of each channel were seen
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    positions: int
    deviation: NDArray[np.float64] | None = None
    gram: NDArray[np.float64] | None = None


def activation_of(group: Group, stats: Mapping[str, LayerStats]) -> Activation | str:
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
        positions = tensor.count // max(1, len(low))
        if _is_identity(reader, channels):
            square = tensor.channel_square
            variance = None if square is None else np.maximum(square - np.square(mean), 0.0)
            deviation = None if variance is None else np.sqrt(variance)
            return Activation(low, high, mean, positions, deviation, _gram(layer, mean, variance))
        least, greatest = np.full(channels, np.inf), np.full(channels, -np.inf)
        np.minimum.at(least, reader.channels, low)
        np.maximum.at(greatest, reader.channels, high)
        if np.isfinite(least).all():
            return Activation(least, greatest, np.zeros(channels), positions)
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


def stacked_weight(group: Group) -> NDArray[np.float64] | None:
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


def largest_weights(group: Group) -> NDArray[np.float64]:
    """The largest |weight| that any reader has for each channel."""
    largest = np.zeros(group.source.channels)
    for reader in group.readers:
        layer = linear_of(reader.node)
        assert layer is not None
        inputs = magnitudes(layer).max(axis=1).reshape(-1)
        largest = np.maximum(largest, per_channel(reader, inputs, len(largest)))
    return largest
