"""Operators that work on integer codes as they are: moved, compared or rescaled, never requantized.

    values move        Reshape, Transpose, Slice, Split, Gather, Concat of equal scales ...     codes move, scale stays
    MaxPool, Relu      max(s (a - z), s (b - z)) = s (max(a, b) - z)                            s > 0
    Mul, Div by c > 0  c s (q - z) = (c s) (q - z)                                              no work at all

So an integer edge stays integer through them, and their output has the scale and zero point of their input.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.analysis.units import array_of, factor, is_constant
from lwc.compiler.core.target import BYTE_OPS, Target

MOVES = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "Identity",
        "Expand", "Tile",
    }
)  # fmt: skip

# Through these ONNX Runtime keeps the channels-last layout that its integer Conv works in.
_KEEPS_CHANNELS_LAST = frozenset({"Add", "Sum", "Mul", "Div", "Concat", "MaxPool", "Relu"})
_BECOMES_CONV = frozenset({"Conv", "AveragePool", "BatchNormalization"})


def moves_codes(node: ir.Node, target: Target) -> bool:
    """Whether the node follows its neighbours' format on this target."""
    return target.moves_codes and follows(node, target.byte_ops)


def follows(node: ir.Node, byte_ops: frozenset[str] = BYTE_OPS) -> bool:
    """Whether the node can take codes on its first input and give codes of the same scale, or a known other one.

    byte_ops: see Target
    """
    if node.domain != "" or not node.inputs or is_constant(node.inputs[0]):
        return False
    if node.op_type in BYTE_OPS - {"Max"}:
        return node.op_type in byte_ops
    if node.op_type == "Relu":
        return "Max" in byte_ops
    if node.op_type in MOVES:
        return True
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1 and _in_channels_last(node.inputs[0])
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") == "nearest" and not _reads(node, 1)
    if node.op_type == "Pad":
        return _pads_with_zero(node)
    return factor(node) is not None


def _reads(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None


def _pads_with_zero(node: ir.Node) -> bool:
    """Zero has a code; other constants would need a range of their own."""
    if node.attributes.get_string("mode", "constant") != "constant" or not _reads(node, 2):
        return True
    value = node.inputs[2]
    return value is not None and is_constant(value) and not array_of(value).any()


def _in_channels_last(value: ir.Value | None) -> bool:
    """Whether an integer Conv makes the value, at most some channels-last operators before it.

    ONNX Runtime (1.31) pools bytes channels-last 50 times faster than channels-first.
    """
    for _ in range(64):
        node = None if value is None else value.producer()
        if node is None:
            return False
        if node.op_type in _BECOMES_CONV:
            return True
        if node.op_type not in _KEEPS_CHANNELS_LAST:
            return False
        value = next((v for v in node.inputs if v is not None and not is_constant(v)), None)
    return False


@dataclass(frozen=True)
class Shuffle:
    """Channels in another order. nodes: Reshape, Transpose, Reshape;  order: old channel by new channel"""

    nodes: tuple[ir.Node, ir.Node, ir.Node]
    order: tuple[int, ...]


def channel_shuffle(node: ir.Node) -> Shuffle | None:
    """The shuffle [N, g c, H, W] -> [N, g, c, H, W] -> [N, c, g, H, W] -> [N, c g, H, W] that starts at a Reshape.

    Byte by byte and channels-last, that Transpose is 30 times slower in ONNX Runtime (1.31) than a Gather of channels.
    """
    split = node.outputs[0]
    turn = _only_reader(split)
    join = None if turn is None else _only_reader(turn.outputs[0])
    if node.op_type != "Reshape" or turn is None or join is None or join.op_type != "Reshape":
        return None
    if turn.op_type != "Transpose" or list(turn.attributes.get_ints("perm", ())) != [0, 2, 1, 3, 4]:
        return None
    before, parts, after = _dims(node.inputs[0]), _dims(split), _dims(join.outputs[0])
    if len(before) != 4 or len(parts) != 5 or before != after or before[1] != parts[1] * parts[2]:
        return None
    if before[:1] + before[2:] != parts[:1] + parts[3:]:
        return None
    order = tuple(g * parts[2] + c for c in range(parts[2]) for g in range(parts[1]))
    return Shuffle((node, turn, join), order)


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses)).node


def _dims(value: ir.Value | None) -> list[int]:
    """Known dimensions; empty when one is not known."""
    dims = [] if value is None or value.shape is None else list(value.shape)
    known = [dim for dim in dims if isinstance(dim, int)]
    return known if len(known) == len(dims) else []
