"""What rules say about a graph: terms of axes, what weights make and read, and where sizes of axes are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from lwc.compiler.analysis.terms import Reason, Term, Terms
from lwc.compiler.analysis.units import array_of, is_constant

# The terms of a value's axes; None where the size is 1: nothing leaves there.
Axis = Term | None
Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class At:
    """An axis of an input of a node."""

    node: ir.Node
    index: int
    axis: int


@dataclass(frozen=True)
class Size:
    """A number in the model that must follow: the sizes of these terms together.

    where: position of an input that holds integers, or name of an attribute
    element: of the vector there; None where it is one integer;  length: of the vector
    terms: those that count
    """

    node: ir.Node
    where: int | str
    element: int | None
    length: int
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Numbered:
    """A constant input that holds numbers of positions on an axis."""

    node: ir.Node
    index: int
    axis: Term


@dataclass(frozen=True)
class Default:
    """An attribute that is absent, and would mean another number than this one if the axis shrank."""

    node: ir.Node
    attribute: str
    value: float
    axis: Term


@dataclass
class Walk:
    """Axes are asked for and given by the rules, node by node in the graph's order.

    constants: the axes of each read of an initializer. Vectors have axes of their own at each reader, so that
        constants that only happen to be equal couple nothing; others have the same for all readers.
    """

    opset: int
    terms: Terms = field(default_factory=Terms)
    values: dict[ir.Value, Axes] = field(default_factory=dict)
    constants: dict[tuple[ir.Node, int], Axes] = field(default_factory=dict)
    made: list[At] = field(default_factory=list)
    summed: list[tuple[At, ...]] = field(default_factory=list)
    averaged: list[Term] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    numbered: list[Numbered] = field(default_factory=list)
    defaults: list[Default] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unknown = self.terms.atom(0)

    def axes(self, node: ir.Node, index: int) -> Axes:
        """Of an input that is there and whose rank is known."""
        value = node.inputs[index]
        assert value is not None
        if not is_constant(value):
            return self.of(value)
        if (node, index) not in self.constants:
            alone = sum(dim != 1 for dim in array_of(value).shape) <= 1 and not value.is_graph_output()
            self.constants[node, index] = self.fresh(value) if alone else self.of(value)
        return self.constants[node, index]

    def of(self, value: ir.Value) -> Axes:
        """Of a value as such, new ones where nobody has given any."""
        if value not in self.values:
            self.values[value] = self.fresh(value)
        return self.values[value]

    def fresh(self, value: ir.Value, rank: int | None = None) -> Axes:
        """New terms for a value's shape; unknown ones for sizes that are not static.

        rank: that of a value without a shape
        """
        shape = value.const_value.shape if value.const_value is not None else value.shape
        if shape is None:
            return (self.unknown,) * (rank or 0)
        return tuple(self.atom(dim) if isinstance(dim, int) else self.unknown for dim in shape)

    def atom(self, size: int) -> Axis:
        """New channels; None for one."""
        return self.terms.atom(size) if size > 1 else None

    def size(self, axis: Axis) -> int:
        """How many channels; 0 where that is unknown."""
        return 1 if axis is None else self.terms.size(axis)

    def known(self, axis: Axis) -> bool:
        return axis is None or axis != self.unknown

    def give(self, node: ir.Node, axes: Sequence[Axis], output: int = 0) -> None:
        """Set the axes of an output. Those that contradict its shape, or leave it out, stay whole."""
        if output >= len(node.outputs):
            return
        value = node.outputs[output]
        if value.shape is not None:
            fresh = self.fresh(value)
            if len(fresh) != len(axes):
                self.pin(node, (*axes, *fresh), "its shape has another rank")
                axes = fresh
            axes = [self._agreed(node, axis, new) for axis, new in zip(axes, fresh, strict=True)]
        self.values[value] = tuple(axes)

    def _agreed(self, node: ir.Node, axis: Axis, fresh: Axis) -> Axis:
        if self.size(axis) == self.size(fresh) or fresh == self.unknown:
            return axis
        self.pin(node, [axis, fresh], "its shape has another size")
        return fresh

    def unify(self, node: ir.Node, a: Axis, b: Axis) -> None:
        """Both lose the same channels. Against an unknown size, or another one, they stay."""
        if a is not None and b is not None:
            self.terms.unify(a, b, self.reason(node, "what it joins does not fit"))
        else:
            self.pin(node, [a, b], "it joins different sizes") if a != b else None

    def pin(self, node: ir.Node, axes: Iterable[Axis], words: str) -> None:
        """Nothing of these leaves."""
        for axis in axes:
            if axis is not None and axis != self.unknown:
                self.terms.pin(axis, self.reason(node, words))

    def stack(self, axes: Iterable[Axis]) -> Axis:
        """The axis that concatenates these; unknown when one of them is."""
        found = [self.terms.atom(1) if axis is None else axis for axis in axes]
        if self.unknown in found:
            return self.unknown
        total = sum(map(self.terms.size, found))
        return self.terms.sum(found) if total > 1 else None

    def join(self, axes: Iterable[Axis]) -> Axis:
        """The axis that flattens these, which are known."""
        found = [axis for axis in axes if axis is not None]
        return self.terms.product(found) if found else None

    def makes(self, node: ir.Node, index: int, axis: int) -> None:
        """The axis of this input, if it is a constant, is one of outputs."""
        self.made.append(At(node, index, axis))

    def sums(self, *places: tuple[ir.Node, int, int]) -> None:
        """The node sums over these axes of its inputs, which are one: where one is zero, it does not matter."""
        self.summed.append(tuple(At(*place) for place in places))

    def averages(self, axes: Iterable[Axis]) -> None:
        """What is computed over these axes is another number when some of their channels are gone."""
        self.averaged += [axis for axis in axes if axis is not None and axis != self.unknown]

    def follows(
        self, node: ir.Node, where: int | str, axes: Sequence[Axis], element: int | None = None, length: int = 1
    ) -> None:
        """A number of the node is the size of these axes together. Nothing is said where one of them is unknown."""
        terms = tuple(axis for axis in axes if axis is not None)
        if self.unknown not in terms:
            self.sizes.append(Size(node, where, element, length, terms))

    def numbers(self, node: ir.Node, index: int, axis: Axis) -> None:
        """The integers of this constant input are positions on the axis."""
        if axis is not None:
            self.numbered.append(Numbered(node, index, axis))

    def defaults_to(self, node: ir.Node, attribute: str, value: float, axis: Axis) -> None:
        """Without the attribute the node takes this number, which it computes from the size of the axis."""
        if attribute not in node.attributes and axis is not None and axis != self.unknown:
            self.defaults.append(Default(node, attribute, value, axis))

    def reason(self, node: ir.Node, words: str) -> Reason:
        return Reason(node.op_type, node.name or "", words)


def present(node: ir.Node) -> list[int]:
    """Positions of the inputs that are there."""
    return [index for index, value in enumerate(node.inputs) if value is not None]


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def integers(node: ir.Node, attribute: str, index: int | None = None) -> list[int] | None:
    """Integers in an attribute, or in a constant input. None: computed at run time; empty: absent in both forms."""
    if attribute in node.attributes:
        return [int(x) for x in node.attributes[attribute].as_ints()]
    value = None if index is None else input_at(node, index)
    if value is None:
        return []
    return [int(x) for x in array_of(value).reshape(-1)] if is_constant(value) else None


def from_front(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis
