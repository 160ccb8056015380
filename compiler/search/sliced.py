"""Statistics of a model some of whose channels leave: what is known of those that stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.rows import Rows, rows_of
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats, TensorStats

Mask = NDArray[np.bool_]
Masks = Mapping[tuple[str, int], Mask]

_PER_CHANNEL = ("channel_minimum", "channel_maximum", "channel_mean", "channel_square")


class Sliced(Mapping[Site, LayerStats]):
    """Statistics of the model as it was, cut to the channels that stay when they are looked up."""

    def __init__(self, stats: Mapping[Site, LayerStats], model: ir.Model, removed: Mapping[Site, Sequence[int]]):
        """model: as the statistics were taken of it;  removed: by group"""
        self._stats, self._model, self._removed = stats, model, removed

    @cached_property
    def _masks(self) -> Masks:
        return find_channels(self._model).keep(self._removed)

    @cached_property
    def _nodes(self) -> Mapping[str, ir.Node]:
        return {node.name: node for node in self._model.graph if node.name}

    def __getitem__(self, site: Site) -> LayerStats:
        layer, node = self._stats[site], self._nodes.get(site.name)
        return layer if node is None else sliced(layer, node, self._masks)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)


def sliced(layer: LayerStats, node: ir.Node, masks: Masks) -> LayerStats:
    """Moments per channel, and the Gram matrix, without the channels that leave.

    masks: (value name, axis) -> which positions stay
    """
    gram, rows = layer.gram, rows_of(node)
    if gram is not None and rows is not None:
        gram = _gram(gram, node.inputs[rows[0]], rows[1], masks)
    elif gram is not None and node.outputs:  # of the rows of a table
        mask = _mask_at(node.outputs[0], -1, masks)
        gram = gram if mask is None or len(mask) != len(gram) else gram[np.ix_(mask, mask)]
    return LayerStats(_tensors(layer.inputs, node.inputs, masks), _tensors(layer.outputs, node.outputs, masks), gram)


def _gram(gram: NDArray[np.float64], value: ir.Value | None, rows: Rows, masks: Masks) -> NDArray[np.float64]:
    mask = _mask_at(value, {"conv": 1, "pixels": 1, "columns": -2}.get(rows.kind, -1), masks)
    if mask is None or mask.all():
        return gram
    taps = rows.groups * rows.features // len(mask)
    stays = np.repeat(mask, taps).reshape(rows.groups, rows.features)
    if rows.groups == 1:
        return gram[np.ix_(stays[0], stays[0])]
    parts = [part[np.ix_(each, each)] for part, each in zip(gram, stays, strict=True) if each.any()]
    return parts[0] if len(parts) == 1 else np.stack(parts)


def _tensors(
    tensors: Sequence[TensorStats | None], values: Sequence[ir.Value | None], masks: Masks
) -> tuple[TensorStats | None, ...]:
    return tuple(
        None if tensor is None else _tensor(tensor, value, masks)
        for tensor, value in zip(tensors, values, strict=True)
    )


def _tensor(tensor: TensorStats, value: ir.Value | None, masks: Masks) -> TensorStats:
    mask = None if tensor.axis is None else _mask_at(value, tensor.axis, masks)
    if mask is None:
        return tensor
    found = {name: getattr(tensor, name) for name in _PER_CHANNEL}
    return replace(tensor, **{name: array[mask] for name, array in found.items() if array is not None})


def _mask_at(value: ir.Value | None, axis: int, masks: Masks) -> Mask | None:
    """Of an axis that may be counted from the end."""
    if value is None or not value.name:
        return None
    rank = 0 if value.shape is None else len(value.shape)
    return masks.get((value.name, axis % rank if rank else axis))
