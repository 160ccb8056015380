"""What the channels of a group weigh and compute."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lwc.compiler.analysis.channels import Group, Slot
from lwc.compiler.analysis.sites import macs


def parameters_of(group: Group, nodes: Mapping[str, ir.Node]) -> int:
    """Numbers in constants that leave with all channels; what two readers share counts once.

    nodes: by name
    """
    found: dict[tuple[ir.Value, int], int] = {}
    for slot in group.constants:
        value = _constant(slot, nodes)
        if value is not None and value.const_value is not None:
            found[value, slot.axis] = round(_share(slot, _shape(value)) * value.const_value.size)
    return sum(found.values())


def macs_of(group: Group, nodes: Mapping[str, ir.Node]) -> int:
    """Multiply-accumulates of the layers that make or read the channels, as far as these have a part in them."""
    found: dict[tuple[str, int], float] = {}
    quantized = [(layer, slot) for slot in group.constants for layer in _behind(nodes.get(slot.node))]
    for layer, slot in (*((slot.node, slot) for slot in (*group.producers, *group.consumers)), *quantized):
        value = _constant(slot, nodes)
        if value is not None:
            share = _share(slot, _shape(value))
            found[layer, slot.axis] = max(found.get((layer, slot.axis), 0.0), share)
    return round(sum(share * macs(nodes[node]) for (node, _), share in found.items()))


def _behind(node: ir.Node | None) -> list[str]:
    """Names of the layers whose weight a DequantizeLinear gives."""
    if node is None or node.op_type != "DequantizeLinear":
        return []
    return [use.node.name or "" for use in node.outputs[0].uses() if use.idx == 1]


def weight_share(group: Group, nodes: Mapping[str, ir.Node]) -> dict[str, float]:
    """By name of the nodes that make or read the channels: the share of their weight that leaves with all of them."""
    found: dict[str, float] = {}
    for slot in (*group.producers, *group.consumers):
        value = _constant(slot, nodes)
        if value is not None:
            found[slot.node] = min(1.0, found.get(slot.node, 0.0) + _share(slot, _shape(value)))
    return found


def _constant(slot: Slot, nodes: Mapping[str, ir.Node]) -> ir.Value | None:
    node = nodes.get(slot.node)
    return node.inputs[slot.index] if node is not None and slot.index < len(node.inputs) else None


def _share(slot: Slot, shape: tuple[int, ...]) -> float:
    return slot.positions.size / shape[slot.axis] if shape and 0 not in shape else 0.0


def _shape(value: ir.Value) -> tuple[int, ...]:
    tensor = value.const_value
    return () if tensor is None else tuple(int(size) for size in tensor.shape.numpy())
