"""Which parameter of one model is which of another: by what reads it, not by what exporters called it.

Nodes are paired by a walk from inputs and outputs that goes on through what is paired already:

    makers      of two paired values, when their kinds are equal
    readers     of two paired values, when their kinds and positions are equal and there is one on either side,
                or one with the same label (Weisfeiler & Lehman 1968: all that is before and behind a node)
    operands    of two paired nodes; those of Add, Mul ... may be swapped

The kind of a node is its operator with its attributes, defaults filled in. Where neither decides, as between two equal
branches, names do, and where they differ, the order in the file: such nodes are told. Parameters are then paired slot
by slot (node, position), because one exporter stores equal tensors once and the other does not. Two models of one
architecture match completely; of others the walk pairs what it can, and the rest is listed with the reason: constants,
and operators that compute something else (not those that only move numbers or count: exporters differ in these).
Scope: main graph and subgraphs. Functions must be inlined and nodes named before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.node_pairs import NodePairs, pair_nodes
from lwc.compiler.core.model import Model

_MOVES = frozenset(
    {"Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Dropout", "Expand", "Flatten", "Gather", "Identity",
     "Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze"}
)  # fmt: skip


@dataclass(frozen=True)
class Unmatched:
    """A tensor without a counterpart of its shape, or an operator. reason: one clause, for a table

    shape: None for an operator
    """

    name: str
    shape: tuple[int, ...] | None
    reason: str


@dataclass(frozen=True, eq=False)
class Slot:
    """A place that reads a constant in both models. node, index: of the first;  a, b: what is read there"""

    node: ir.Node
    index: int
    a: ir.Value
    b: ir.Value


@dataclass(frozen=True, eq=False)
class Matching:
    """slots: in the order of the first model;  guessed: its nodes that neither structure nor names tell apart"""

    slots: tuple[Slot, ...]
    only_a: tuple[Unmatched, ...]
    only_b: tuple[Unmatched, ...]
    guessed: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of constants that correspond, each pair once; a tensor that is shared in one may be in several."""
        return tuple(dict.fromkeys((slot.a.name or "", slot.b.name or "") for slot in self.slots))

    @property
    def complete(self) -> bool:
        return not self.only_a and not self.only_b


def match(a: Model, b: Model) -> Matching:
    """Pair the constants of two models that compute the same function of other parameters."""
    found = pair_nodes(a.ir, b.ir)
    slots, why_a, why_b = _slots(found)
    used_a, used_b = {slot.a for slot in slots}, {slot.b for slot in slots}
    back = {y: x for x, y in found.pairs.items()}
    return Matching(
        tuple(slots),
        (*_unmatched(a, used_a, set(found.pairs), why_a), *_strangers(a, found.pairs)),
        (*_unmatched(b, used_b, set(back), why_b), *_strangers(b, back)),
        tuple(node.name or node.op_type for node in found.guessed),
    )


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Sizes of a constant."""
    assert value.const_value is not None
    return tuple(int(size) for size in value.const_value.shape.numpy())


Reasons = dict[ir.Value, str]


def _slots(found: NodePairs) -> tuple[list[Slot], Reasons, Reasons]:
    """The slots whose constants fit each other; for other constants of paired nodes, why they do not."""
    slots: list[Slot] = []
    why_a: Reasons = {}
    why_b: Reasons = {}
    for x, y in found.pairs.items():
        for index, (va, vb) in enumerate(found.operands(x)):
            reason_a, reason_b = _misfit(va, vb, y), _misfit(vb, va, x)
            if not reason_a and not reason_b and _is_constant(va) and va is not None and vb is not None:
                slots.append(Slot(x, index, va, vb))
            if reason_a and va is not None:
                why_a.setdefault(va, reason_a)
            if reason_b and vb is not None:
                why_b.setdefault(vb, reason_b)
    return slots, why_a, why_b


def _misfit(value: ir.Value | None, other: ir.Value | None, reader: ir.Node) -> str:
    """Why a constant does not fit what the paired node of the other model reads in its place."""
    if value is None or not _is_constant(value):
        return ""
    if other is None:
        return f"'{reader.name}' reads nothing there"
    if not _is_constant(other):
        return f"'{reader.name}' reads what is computed, '{other.name}'"
    if shape_of(value) != shape_of(other):
        return f"'{other.name}' has the shape {list(shape_of(other))}"
    if _is_float(value) != _is_float(other):
        return f"'{other.name}' is {other.const_value.dtype if other.const_value else None}"
    return "" if _is_float(value) or same_values(value, other) else f"'{other.name}' holds other integers"


def same_values(a: ir.Value, b: ir.Value) -> bool:
    """Whether two constants that are no floats are equal."""
    assert a.const_value is not None
    assert b.const_value is not None
    return bool(np.array_equal(a.const_value.numpy(), b.const_value.numpy()))


def _unmatched(model: Model, used: set[ir.Value], paired: set[ir.Node], why: Reasons) -> Iterator[Unmatched]:
    for graph in model.ir.graphs():
        for value in graph.initializers.values():
            readers = [node for node, _ in value.uses()]
            missed = [node for node in readers if node not in paired]
            if not _is_constant(value) or not readers or (value in used and value not in why and not missed):
                continue
            if value not in why and not _is_float(value):
                continue  # axes and shapes of a node that is listed for its parameters, or has none
            reader = missed[0] if missed else readers[0]
            reason = why.get(value, f"nothing corresponds to its reader '{reader.name}' ({reader.op_type})")
            yield Unmatched(value.name or "", shape_of(value), reason)


def _strangers(model: Model, paired: Mapping[ir.Node, ir.Node]) -> Iterator[Unmatched]:
    """Operators on floats that nothing corresponds to, but for those that are listed with what they read."""
    for node in model.nodes():
        listed = any(value is not None and _is_constant(value) and _is_float(value) for value in node.inputs)
        counts = any(value.dtype is not None and value.dtype.is_integer() for value in node.outputs)
        if node not in paired and node.op_type not in _MOVES and not listed and not counts:
            yield Unmatched(node.name or "", None, f"nothing corresponds to the operator {node.op_type}")


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and value.const_value is not None


def _is_float(value: ir.Value) -> bool:
    assert value.const_value is not None
    return value.const_value.dtype.is_floating_point()
