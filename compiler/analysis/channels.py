"""Coupled channel groups: which channels of a model can leave, and what leaves with each.

Rules (channel_rules/) unify the terms of axes (terms.py) node by node; afterwards every atom that nothing pins is a
group. Pinned are the graph's inputs and outputs, what is compared or counted along (Softmax, TopK), places of images,
entries of tables, and what an operator without a rule or a subgraph reads. The idea of groups that must leave together
is that of DepGraph (Fang et al. 2023) and OTOv2 (Chen et al. 2023); here they are inferred as types are.

Needs inferred shapes and nodes with unique names; a canonical model gives the most groups. Linear in the nodes.
Scope: the main graph; a subgraph keeps what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.channel_rules.visit import walked
from lwc.compiler.analysis.channel_rules.walk import At, Axes, Walk, present
from lwc.compiler.analysis.terms import Mask, Positions, Reason, Term
from lwc.compiler.analysis.units import is_constant
from lwc.compiler.core.plan import Site


@dataclass(frozen=True, eq=False)
class Slot:
    """An axis of a value on which a group lies.

    node, index: who reads it, and as which input;  positions: [channels, m] those that leave with each channel
    """

    node: str
    index: int
    value: str
    axis: int
    positions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lying:
    """A group on an axis. positions: [channels, m] those of the axis that belong to each channel"""

    site: Site
    axis: int
    positions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that can leave independently of each other, each with everything coupled to it.

    site: Site(name of the node that first makes them, its operator, "channels"); '#k' behind the name where a node
        makes several groups
    constants: all axes of initializers that are sliced, each once
    producers: weights whose outputs the channels are;  consumers: weights that sum over them
    contracted: inputs that are summed over them, one per sum; where these are zero, nothing depends on the channels
    exact: removing them is the same as that; not where a normalization or a mean runs over them
    heads: the channels are runs of an axis that others share, such as heads
    """

    site: Site
    size: int
    constants: tuple[Slot, ...]
    producers: tuple[Slot, ...]
    consumers: tuple[Slot, ...]
    contracted: tuple[Slot, ...]
    exact: bool
    heads: bool


@dataclass(frozen=True)
class Refusal:
    """Outputs of a weight that stay, and why: an operator, the name of its node, a reason."""

    value: str
    axis: int
    size: int
    operator: str
    node: str
    reason: str


@dataclass(frozen=True)
class Number:
    """A size written in a model. element: of a vector of this length; None where it stands alone"""

    element: int | None
    length: int
    size: int


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What becomes of a model without some channels.

    constants: per read of an initializer, by axis, what stays
    sizes: per input or attribute of a node, the numbers there
    numbered: per input that holds positions on an axis, what stays of it
    defaults: attributes that have to be written
    values: of what nodes make, by axis, what stays
    """

    constants: Mapping[tuple[ir.Node, int], Mapping[int, Mask]]
    sizes: Mapping[tuple[ir.Node, int | str], Sequence[Number]]
    numbered: Mapping[tuple[ir.Node, int], Mask]
    defaults: Mapping[tuple[ir.Node, str], float]
    values: Mapping[ir.Value, Mapping[int, Mask]]


@dataclass(frozen=True, eq=False)
class Channels:
    """The groups of a model in the graph's order, and what stays."""

    groups: tuple[Group, ...]
    refused: tuple[Refusal, ...]
    _walk: Walk = field(repr=False)
    _atoms: Mapping[Site, Term] = field(repr=False)

    def at(self, site: Site) -> Group | None:
        """The group of this site."""
        return next((group for group in self.groups if group.site == site), None)

    def keep(self, removed: Mapping[Site, Sequence[int]]) -> dict[tuple[str, int], Mask]:
        """What stays on each axis (name of the value, axis) when channels leave; axes that lose nothing are absent.

        Raises KeyError for a site that is none of the groups'. Of vectors among the initializers, which readers do
        not share, it tells what the last reader sees.
        """
        kept = self._kept(removed)
        reads = {value: axes for (node, k), axes in self._walk.constants.items() if (value := node.inputs[k])}
        return {
            (value.name or "", k): mask
            for value, axes in chain(self._walk.values.items(), reads.items())
            for k, mask in self._masks(axes, kept).items()
        }

    def without(self, removed: Mapping[Site, Sequence[int]]) -> Shrunk:
        """What is to be sliced and rewritten when channels leave. Raises KeyError as above."""
        walk, kept = self._walk, self._kept(removed)
        constants = {read: masks for read, axes in walk.constants.items() if (masks := self._masks(axes, kept))}
        values = {value: masks for value, axes in walk.values.items() if (masks := self._masks(axes, kept))}
        numbered = {
            (item.node, item.index): masks[0]
            for item in walk.numbered
            if (masks := self._masks((item.axis,), kept))
        }
        defaults = {
            (item.node, item.attribute): item.value
            for item in walk.defaults
            if self._masks((item.axis,), kept)
        }
        return Shrunk(constants, self._sizes(kept), numbered, defaults, values)

    def reads(self) -> Iterator[tuple[ir.Node, int, list[Lying]]]:
        """Every read of an initializer by the main graph, and the groups on its axes; not of numbers of positions."""
        numbers = {(item.node, item.index) for item in self._walk.numbered}
        constants = self._walk.constants.items()
        return ((*place, self._lying(axes)) for place, axes in constants if place not in numbers)

    def on(self, value: ir.Value) -> list[Lying]:
        """The groups on the axes of what a node makes."""
        return self._lying(self._walk.values.get(value, ()))

    def _lying(self, axes: Axes) -> list[Lying]:
        terms, sites = self._walk.terms, {atom: site for site, atom in self._atoms.items()}
        return [
            Lying(sites[atom], k, positions)
            for k, axis in enumerate(axes)
            if axis is not None
            for atom, positions in terms.positions(axis).items()
            if atom in sites
        ]

    def _sizes(self, kept: Mapping[Term, Mask]) -> dict[tuple[ir.Node, int | str], list[Number]]:
        """All numbers of every vector in which one changes."""
        terms = self._walk.terms
        found: dict[tuple[ir.Node, int | str], list[Number]] = {}
        touched = set()
        for size in self._walk.sizes:
            masks = [terms.keep(term, kept) for term in size.terms]
            number = Number(size.element, size.length, sum(int(mask.sum()) for mask in masks))
            found.setdefault((size.node, size.where), []).append(number)
            if not all(mask.all() for mask in masks):
                touched.add((size.node, size.where))
        return {place: numbers for place, numbers in found.items() if place in touched}

    def _kept(self, removed: Mapping[Site, Sequence[int]]) -> dict[Term, Mask]:
        kept = {}
        for site, channels in removed.items():
            atom = self._atoms[site]
            kept[atom] = np.ones(self._walk.terms.size(atom), np.bool_)
            kept[atom][list(channels)] = False
        return kept

    def _masks(self, axes: Axes, kept: Mapping[Term, Mask]) -> dict[int, Mask]:
        terms = self._walk.terms
        masks = {k: terms.keep(axis, kept) for k, axis in enumerate(axes) if axis is not None}
        return {k: mask for k, mask in masks.items() if not mask.all()}


def find_channels(model: ir.Model) -> Channels:
    """The groups of the main graph; nothing is changed."""
    walk = walked(model.graph, model.opset_imports.get("", 0))
    return _Grouping(walk, walk.terms.pinned()).channels(model.graph)


@dataclass
class _Grouping:
    """Atoms that nothing pins become groups."""

    walk: Walk
    pinned: Mapping[Term, Reason]

    def channels(self, graph: ir.Graph) -> Channels:
        sites, first = self._sites(graph)
        constants = self._slots(self._constants())
        producers = self._slots(at for at in self.walk.made if is_constant(at.node.inputs[at.index]))
        contracted = self._slots(_weight_first(places) for places in self.walk.summed)
        exact = {atom for axis in self.walk.averaged for atom in self.walk.terms.atoms(axis)}
        weights = {(node.name or "", k) for (node, k), axes in self.walk.constants.items() if len(axes) > 1}
        groups = [
            Group(
                site,
                self.walk.terms.size(atom),
                tuple(constants[atom]),
                tuple(producers.get(atom, ())),
                tuple(slot for slot in contracted.get(atom, ()) if (slot.node, slot.index) in weights),
                tuple(contracted.get(atom, ())),
                atom not in exact,
                _in_runs([slot.positions for slot in producers.get(atom, ())] or [first[atom]]),
            )
            for atom, site in sites.items()
            if atom in constants
        ]
        atoms = {site: atom for atom, site in sites.items() if atom in constants}
        return Channels(tuple(groups), self._refusals(), self.walk, atoms)

    def _sites(self, graph: ir.Graph) -> tuple[dict[Term, Site], dict[Term, Positions]]:
        """Per free atom its site, in the graph's order; and its positions on the axis there."""
        sites: dict[Term, Site] = {}
        first: dict[Term, Positions] = {}
        for node in graph:
            made = dict[Term, Term]()
            outputs = [axes for value in node.outputs if (axes := self.walk.values.get(value))]
            read = [self.walk.axes(node, k) for k in present(node) if (node, k) in self.walk.constants]
            for axis in chain(*outputs, *read):
                for atom in self._free(axis):
                    if atom not in sites:
                        made.setdefault(atom, axis if axis is not None else atom)
            for k, (atom, axis) in enumerate(made.items()):
                name = f"{node.name}#{k}" if len(made) > 1 else node.name or ""
                sites[atom] = Site(name, node.op_type, "channels")
                first[atom] = self.walk.terms.positions(axis)[atom]
        return sites, first

    def _free(self, axis: Term | None) -> list[Term]:
        if axis is None:
            return []
        terms = self.walk.terms
        return [atom for atom in terms.atoms(axis) if atom not in self.pinned and terms.size(atom) > 1]

    def _constants(self) -> Iterator[At]:
        """Every axis of every initializer once; vectors at each reader."""
        seen = set()
        for (node, index), axes in self.walk.constants.items():
            key = tuple(None if axis is None else self.walk.terms.find(axis) for axis in axes)
            value = node.inputs[index]
            if (value, key) not in seen:
                seen.add((value, key))
                yield from (At(node, index, k) for k in range(len(axes)))

    def _slots(self, places: Iterable[At]) -> dict[Term, list[Slot]]:
        found: dict[Term, list[Slot]] = {}
        for at in places:
            axis, value = self.walk.axes(at.node, at.index)[at.axis], at.node.inputs[at.index]
            free = self._free(axis)
            if axis is None or value is None or not free:
                continue
            positions = self.walk.terms.positions(axis)
            for atom in free:
                slot = Slot(at.node.name or "", at.index, value.name or "", at.axis, positions[atom])
                found.setdefault(atom, []).append(slot)
        return found

    def _refusals(self) -> tuple[Refusal, ...]:
        """One for each atom that weights make and that stays."""
        found: dict[Term, Refusal] = {}
        for at in self.walk.made:
            axis, value = self.walk.axes(at.node, at.index)[at.axis], at.node.inputs[at.index]
            if axis is None or value is None or not is_constant(value):
                continue
            for atom in self.walk.terms.atoms(axis):
                if atom in self.pinned and self.walk.terms.size(atom) > 1:
                    why, size = self.pinned[atom], self.walk.terms.size(atom)
                    refusal = Refusal(value.name or "", at.axis, size, why.operator, why.node, why.words)
                    found.setdefault(atom, refusal)
        return tuple(found.values())


def _in_runs(places: Iterable[Positions]) -> bool:
    """Whether each channel is a run of several positions wherever it is made."""
    return all(positions.shape[1] > 1 and int(positions[0, 1] - positions[0, 0]) == 1 for positions in places)


def _weight_first(places: Sequence[At]) -> At:
    """Of the inputs a sum runs over, the one that is a constant."""
    return next((at for at in places if is_constant(at.node.inputs[at.index])), places[0])
