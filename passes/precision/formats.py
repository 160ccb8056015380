"""Which values are integers once the plan's static int8 sites are: decided before anything is rewritten.

A unit that must write integers makes its output integer; a matrix product does where an integer reader waits behind
it, and writes float32 for free elsewhere. Operators that can work on codes follow their input. What an integer unit
reads and nobody makes as integers is quantized where it is made, once for all readers. Scope: main graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, factor, unit_of
from lwc.compiler.core.plan import Range, Site, StaticInt8
from lwc.compiler.core.target import Target
from lwc.passes.precision.followers import MOVES, follows, moves_codes

_CODES_END_WITH = frozenset({"HardSigmoid", "HardSwish"})
_OWN_RANGE = {"HardSigmoid": Range(0.0, 1.0), "Tanh": Range(-1.0, 1.0)}  # part of how these are written


@dataclass(frozen=True)
class Formats:
    """units: integer units by node;  emitting: those that write integers;  followers: nodes that work on codes

    made: integer values and the unit or follower that makes them
    ranges: of every value that is quantized, or written as integers by a unit
    wide: values and constants that have 16 bits
    clipping: units whose activation stays a node, because its ends are no ends of the codes
    """

    units: dict[ir.Node, Unit]
    emitting: set[ir.Node] = field(default_factory=set)
    followers: set[ir.Node] = field(default_factory=set)
    made: dict[ir.Value, ir.Node] = field(default_factory=dict)
    ranges: dict[ir.Value, Range] = field(default_factory=dict)
    wide: set[ir.Value] = field(default_factory=set)
    clipping: set[Unit] = field(default_factory=set)

    def reads_integers(self, node: ir.Node, index: int) -> bool:
        """Whether this input will be fed with integers."""
        if node in self.followers:
            return index == 0
        return node in self.units and index in self.units[node].inputs


def decide_formats(
    graph: ir.Graph, sites: Mapping[Site, StaticInt8], ranges: Mapping[str, Range], target: Target
) -> tuple[Formats, dict[Site, str]]:
    """Formats of all values for these static int8 sites; the sites that stay float, and why."""
    units, refused = find_units(graph, sites)
    wide = {site.name for site, choice in sites.items() if choice.activation_bits > 8}
    while True:
        formats = Formats(dict(units))
        failed = _Flow(graph, formats, ranges, target, bool(wide)).run()
        if not failed:
            _widen(formats, wide)
            _share_scales_of_concats(graph, formats)
            return formats, refused
        for site, reason in failed.items():
            refused[site] = reason
            units = {node: unit for node, unit in units.items() if node.name != site.name}


def find_units(graph: ir.Graph, sites: Iterable[Site]) -> tuple[dict[ir.Node, Unit], dict[Site, str]]:
    """The units around sites, and the reasons of those that have none."""
    nodes = {node.name: node for node in graph}
    units: dict[ir.Node, Unit] = {}
    refused: dict[Site, str] = {}
    for site in sites:
        node = nodes.get(site.name)
        found = "the main graph has no node of this name" if node is None else unit_of(node)
        if isinstance(found, Unit):
            units[found.node] = found
        else:
            refused[site] = found
    swallowed = {node for unit in units.values() for node in unit.tail}
    return {node: unit for node, unit in units.items() if node not in swallowed}, refused


def required_values(model: ir.Model, sites: Iterable[Site]) -> frozenset[str]:
    """Names of the values whose statistics static int8 may need at these sites, all of them or any subset.

    These are the operands of every site, and the outputs (behind the swallowed activation) but those of operators
    that have their own range and of matrix products that only float readers wait for.
    """
    units, _ = find_units(model.graph, sites)
    wanted = _wanted(units)
    names = {value.name for unit in units.values() for value in unit.operands()}
    for unit in units.values():
        if unit.node.op_type not in _OWN_RANGE and (not unit.writes_float or unit.output in wanted):
            names.add(unit.output.name)
    return frozenset(name for name in names if name)


def _wanted(units: Mapping[ir.Node, Unit], follows: Callable[[ir.Node], bool] = follows) -> set[ir.Value]:
    """Values that reach an integer unit, if only through operators that work on codes."""
    pending = [value for unit in units.values() for value in unit.operands()]
    wanted: set[ir.Value] = set()
    while pending:
        value = pending.pop()
        if value in wanted:
            continue
        wanted.add(value)
        node = value.producer()
        if node is not None and node not in units and follows(node) and node.inputs[0] is not None:
            pending.append(node.inputs[0])
    return wanted


@dataclass(frozen=True)
class _Flow:
    """One walk over the graph for a given set of units; fills `formats`."""

    graph: ir.Graph
    formats: Formats
    ranges: Mapping[str, Range]
    target: Target
    has_wide: bool

    def run(self) -> dict[Site, str]:
        """The units that cannot be integer, with the reason."""
        failed: dict[Site, str] = {}
        wanted = _wanted(self.formats.units, self._follows)
        made = self.formats.made
        for node in self.graph:
            unit = self.formats.units.get(node)
            if unit is not None:
                reason = self._refusal(unit, wanted)
                if reason:
                    failed[Site(node.name or "", node.op_type)] = reason
            elif self._follows(node) and node.inputs[0] in made:
                self.formats.followers.add(node)
                made.update(dict.fromkeys(node.outputs, node))
        return failed

    def _refusal(self, unit: Unit, wanted: set[ir.Value]) -> str:
        """Give the unit its operands and its output; a reason when it cannot have them."""
        if self.target.power_of_two_scales and unit.node.op_type in _CODES_END_WITH:
            return "it clips at the ends of its codes, which a power of two does not meet"
        if unit.output.is_graph_output() and unit.output not in self.graph.outputs:
            return "its output leaves through a subgraph"
        for value in unit.operands():
            if value in self.formats.made:
                continue
            given = self.ranges.get(value.name or "")
            if given is None:
                return f"the plan has no range for its input '{value.name}'"
            self.formats.ranges[value] = given
        given = self._output_range(unit)
        if unit.writes_float and (unit.output not in wanted or given is None):
            self.formats.units[unit.node] = unit.without_activation()
            return ""
        if given is None:
            return f"the plan has no range for its output '{unit.output.name}'"
        self.formats.ranges[unit.output] = Range(max(given.low, unit.floor), min(given.high, unit.ceiling))
        if self.target.power_of_two_scales and not {unit.floor, unit.ceiling} <= {-math.inf, 0.0, math.inf}:
            if unit.node.op_type not in ("Conv", "Gemm"):
                return "its activation clips at the ends of its codes, which a power of two does not meet"
            self.formats.clipping.add(unit)
        self.formats.emitting.add(unit.node)
        self.formats.made[unit.output] = unit.node
        return ""

    def _follows(self, node: ir.Node) -> bool:
        """A factor must keep powers of two where the scales are such; 16-bit codes are moved, no more."""
        if self.has_wide and node.op_type not in MOVES and factor(node) is None:
            return False
        times = factor(node) if self.target.power_of_two_scales else None
        return moves_codes(node, self.target) and (times is None or math.frexp(times)[0] == 0.5)

    def _output_range(self, unit: Unit) -> Range | None:
        return _OWN_RANGE.get(unit.node.op_type) or self.ranges.get(unit.output.name or "")


def _widen(formats: Formats, names: set[str]) -> None:
    """16 bits for what the units of these names read and write, from where it is made."""
    for node, unit in formats.units.items():
        if node.name in names:
            values = [*unit.operands(), *(v for k in unit.constants if (v := node.inputs[k]) is not None)]
            for value in [*values, unit.output] if node in formats.emitting else values:
                formats.wide.add(value)
                while (maker := value.producer()) in formats.followers and maker.inputs[0] is not None:
                    value = maker.inputs[0]
                    formats.wide.add(value)


def _share_scales_of_concats(graph: ir.Graph, formats: Formats) -> None:
    """Let what only a Concat reads be written with the Concat's scale at once.

    The Concat then moves bytes, and values are rounded once instead of twice.
    """
    for node in reversed(list(graph)):
        unit = formats.units.get(node)
        if node.op_type != "Concat" or unit is None:
            continue
        shared = formats.ranges[unit.output]
        for value in unit.operands():
            root = _made_for(value, node, formats)
            if root is not None and shared.low >= root.floor:
                formats.ranges[root.output] = shared


def _made_for(value: ir.Value, reader: ir.Node, formats: Formats) -> Unit | None:
    """The unit that makes `value` for `reader` alone, through operators that keep the scale."""
    while True:
        node = formats.made.get(value)
        if node is None or value.is_graph_output() or any(use.node is not reader for use in value.uses()):
            return None
        unit = formats.units.get(node)
        if unit is not None:
            return None if unit.ceiling != float("inf") or node.op_type in _OWN_RANGE else unit
        first = node.inputs[0]
        if first is None or factor(node) is not None or len(node.outputs) != 1 or node.op_type == "Relu":
            return None
        value, reader = first, node
