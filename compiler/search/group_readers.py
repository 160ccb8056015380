"""The layers that read a group's channels, what is known of their inputs, and the order in which channels leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.channels import Group, Slot
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.analysis.units import array_of
from lwc.compiler.analysis.weights import weight_views
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.solvers.elimination import Elimination, by_score, eliminate, eliminate_refitted
from lwc.passes.solvers.moments import Floats
from lwc.passes.solvers.saliency import Reader, magnitude
from lwc.passes.sparsity.layer import input_means

LARGE = 2304  # inputs of a reader, 256 channels x 3 x 3, beyond which refitting at every step takes minutes


def reader_sites(groups: Iterable[Group], nodes: Mapping[str, ir.Node]) -> list[Site]:
    """Sites of all layers that read channels of these groups."""
    return list(dict.fromkeys(site_of(nodes[slot.node]) for group in groups for slot in group.consumers))


def elimination_of(
    group: Group, nodes: Mapping[str, ir.Node], stats: Mapping[Site, LayerStats]
) -> Elimination:
    """Channels as they leave, and what the readers have lost after each, least squares taking over.

    Of LARGE readers as if nothing took over; by magnitude where nothing is known of what the readers see.
    """
    readers = [reader for slot in group.consumers if (reader := _reader(slot, nodes[slot.node], stats)) is not None]
    if readers:
        large = max(len(reader.moments) for reader in readers) > LARGE
        return eliminate(readers) if large else eliminate_refitted(readers)
    slots = group.producers or group.constants
    return by_score(magnitude([_rows(slot, nodes[slot.node]) for slot in slots]))


def _reader(slot: Slot, node: ir.Node, stats: Mapping[Site, LayerStats]) -> Reader | None:
    view = next((view for view in weight_views(node) if view.index == slot.index and view.sees_activation), None)
    layer = stats.get(site_of(node))
    if view is None or layer is None or layer.gram is None or layer.gram.ndim != 2:
        return None
    weight = _weight(slot, node)
    taps = view.columns // weight.shape[slot.axis]
    if view.columns != len(layer.gram) or taps * weight.shape[slot.axis] != view.columns:
        return None
    positions = (slot.positions[:, :, None] * taps + np.arange(taps)).reshape(len(slot.positions), -1)
    return Reader.of(view.matrix(weight), positions, layer.gram, input_means(node, view, layer, [layer.gram])[0])


def _rows(slot: Slot, node: ir.Node) -> tuple[Floats, NDArray[np.int64]]:
    weight = np.moveaxis(_weight(slot, node).astype(np.float64), slot.axis, 0)
    return weight.reshape(len(weight), -1), slot.positions


def _weight(slot: Slot, node: ir.Node) -> NDArray[Any]:
    value = node.inputs[slot.index]
    assert value is not None
    return array_of(value)
