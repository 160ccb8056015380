"""Integers that a graph computes with sizes, as far as they are known before it runs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import input_at, integers
from lwc.compiler.analysis.units import array_of, is_constant

_STEPS = 16  # operators that are followed back
_MOVES = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape")


def known_integers(value: ir.Value | None, steps: int = _STEPS) -> list[int | None] | None:
    """The elements of a vector or number, None for those of run time; None for it all where even their count is."""
    if value is None:
        return None
    if is_constant(value):
        return [int(x) for x in array_of(value).reshape(-1)] if array_of(value).dtype.kind in "iu" else None
    node = value.producer()
    found = _made_by(node, steps - 1) if node is not None and steps and node.domain == "" else None
    if found is None and value.shape is not None and len(value.shape) < 2:
        length = value.shape[0] if len(value.shape) else 1
        return [None] * length if isinstance(length, int) else None
    return found


def _made_by(node: ir.Node, steps: int) -> list[int | None] | None:
    read = input_at(node, 0)
    if node.op_type == "Shape":
        if read is None or read.shape is None:
            return None
        dims = [dim if isinstance(dim, int) else None for dim in read.shape]
        return dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(dims))]
    if node.op_type == "Concat":
        parts = [known_integers(part, steps) for part in node.inputs]
        return None if None in parts else [number for part in parts if part for number in part]
    numbers = known_integers(read, steps)
    if numbers is None or node.op_type in _MOVES:
        return numbers
    if node.op_type == "Gather":
        return _picked(numbers, integers(node, "", 1))
    if node.op_type == "Slice" and len(node.inputs) < 5:
        start, end = integers(node, "starts", 1), integers(node, "ends", 2)
        return numbers[start[0] : end[0]] if start and end else None
    return None


def _picked(numbers: Sequence[int | None], places: Sequence[int] | None) -> list[int | None] | None:
    inside = places is not None and all(-len(numbers) <= place < len(numbers) for place in places)
    return [numbers[place] for place in places] if places is not None and inside else None
