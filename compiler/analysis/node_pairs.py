"""The walk of `lwc.compiler.analysis.matching`: pairs of nodes of two graphs, from what is paired already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from lwc.compiler.analysis.node_kinds import kinds_of, labels_of, swaps

Value = ir.Value | None


@dataclass(frozen=True, eq=False)
class NodePairs:
    """pairs: node of the first graph -> of the second, in the order of the first

    swapped: nodes whose operands correspond crosswise;  guessed: nodes paired by their order in the file alone
    """

    pairs: dict[ir.Node, ir.Node]
    swapped: frozenset[ir.Node]
    guessed: tuple[ir.Node, ...]

    def operands(self, x: ir.Node) -> Iterator[tuple[Value, Value]]:
        """Inputs of x beside those of its partner; None where one has none."""
        return _beside(x.inputs, self.pairs[x].inputs, x in self.swapped)


def pair_nodes(a: ir.Model, b: ir.Model) -> NodePairs:
    """Walk both graphs from their inputs and outputs."""
    walk = _Walk(_Side.of(a), _Side.of(b))
    walk.queue.extend(_ports(a.graph.inputs, b.graph.inputs))
    walk.queue.extend(_ports(a.graph.outputs, b.graph.outputs))
    walk.run()
    pairs = {node: walk.pairs[node] for node in a.graph.all_nodes() if node in walk.pairs}
    return NodePairs(pairs, frozenset(walk.swapped), tuple(node for node in pairs if node in walk.guessed))


@dataclass(frozen=True, eq=False)
class _Side:
    kinds: dict[ir.Node, Hashable]
    labels: dict[ir.Node, int]
    made: dict[ir.Value, int]

    @staticmethod
    def of(model: ir.Model) -> _Side:
        kinds = kinds_of(model)
        return _Side(kinds, *labels_of(model, kinds))


@dataclass(eq=False)
class _Walk:
    """queue: pairs of values to look around;  open: those around which something is undecided still"""

    a: _Side
    b: _Side
    queue: deque[tuple[ir.Value, ir.Value]] = field(default_factory=deque)
    pairs: dict[ir.Node, ir.Node] = field(default_factory=dict)
    back: dict[ir.Node, ir.Node] = field(default_factory=dict)
    seen: set[tuple[ir.Value, ir.Value]] = field(default_factory=set)
    open: dict[tuple[ir.Value, ir.Value], None] = field(default_factory=dict)
    crossing: dict[ir.Node, None] = field(default_factory=dict)
    swapped: set[ir.Node] = field(default_factory=set)
    guessed: set[ir.Node] = field(default_factory=set)

    def run(self) -> None:
        """Go on for as long as something follows; then decide one thing by name or order, and go on."""
        steps = (self._drain, self._clear_operands, self._by_name, self._unclear_operands, self._by_order)
        while any(step() for step in steps):
            continue

    def _drain(self) -> bool:
        going = bool(self.queue)
        while self.queue:
            pair = self.queue.popleft()
            if pair not in self.seen:
                self.seen.add(pair)
                self._look(*pair)
        return going

    def _look(self, va: ir.Value, vb: ir.Value) -> None:
        x, y = va.producer(), vb.producer()
        if x is not None and y is not None and va.index() == vb.index():
            self._pair(x, y)
        self._pair_readers(va, vb)

    def _pair_readers(self, va: ir.Value, vb: ir.Value) -> None:
        """Readers of equal kind where there is one on either side, of all or of those with a label."""
        for key in (_place, _labelled):
            xs, ys = _grouped(self._free(va, self.pairs), self.a, key), _grouped(self._free(vb, self.back), self.b, key)
            for group, found in xs.items():
                if len(found) == 1 and len(ys.get(group, ())) == 1:
                    self._pair(found[0], ys[group][0])
        if any(True for _ in self._doubts(va, vb)):
            self.open[va, vb] = None

    def _free(self, value: ir.Value, taken: dict[ir.Node, ir.Node]) -> list[tuple[ir.Node, int]]:
        return [(use.node, use.idx) for use in value.uses() if use.node not in taken]

    def _doubts(self, va: ir.Value, vb: ir.Value) -> Iterator[tuple[list[ir.Node], list[ir.Node]]]:
        """Readers of equal kind on both sides: those of equal labels first."""
        for key in (_labelled, _place):
            xs, ys = _grouped(self._free(va, self.pairs), self.a, key), _grouped(self._free(vb, self.back), self.b, key)
            for group, found in xs.items():
                if group in ys:
                    yield found, ys[group]

    def _by_name(self) -> bool:
        for va, vb in list(self.open):
            doubts = list(self._doubts(va, vb))
            if not doubts:
                del self.open[va, vb]
            for xs, ys in doubts:
                if len(xs) == len(ys) == 1:
                    return self._pair(xs[0], ys[0])
                for x in xs:
                    same = [y for y in ys if _names(x) & _names(y)]
                    if len(same) == 1 and sum(bool(_names(other) & _names(same[0])) for other in xs) == 1:
                        return self._pair(x, same[0])
        return False

    def _by_order(self) -> bool:
        for va, vb in self.open:
            for xs, ys in self._doubts(va, vb):
                self.guessed.add(xs[0])
                return self._pair(xs[0], ys[0])
        return False

    def _pair(self, x: ir.Node, y: ir.Node) -> bool:
        if x in self.pairs or y in self.back or self.a.kinds[x] != self.b.kinds[y]:
            return False
        self.pairs[x], self.back[y] = y, x
        self.queue.extend(zip(x.outputs, y.outputs, strict=False))
        if swaps(x) and len(y.inputs) == 2:
            self.crossing[x] = None
            self._settle(x, sure=True)
        else:
            self._queue_operands(x)
        for one, other in zip(_bodies(x), _bodies(y), strict=False):
            self.queue.extend(zip(one.inputs, other.inputs, strict=False))
            self.queue.extend(zip(one.outputs, other.outputs, strict=False))
        return True

    def _clear_operands(self) -> bool:
        """Sums and products of which it is clear by now whether their operands are swapped."""
        settled = [self._settle(x, sure=True) for x in list(self.crossing)]
        return any(settled)

    def _unclear_operands(self) -> bool:
        """The first of those that are left: as it is written."""
        return any(self._settle(x, sure=False) for x in list(self.crossing))

    def _settle(self, x: ir.Node, *, sure: bool) -> bool:
        """Decide whether the operands of a paired sum or product are swapped; False: not clear yet."""
        (p, q), (r, s) = x.inputs, self.pairs[x].inputs
        straight, crossed = self._likeness(p, r) + self._likeness(q, s), self._likeness(p, s) + self._likeness(q, r)
        if straight == crossed and p is not q and r is not s:
            if sure:
                return False
            self.guessed.add(x)
        if crossed > straight:
            self.swapped.add(x)
        del self.crossing[x]
        self._queue_operands(x)
        return True

    def _queue_operands(self, x: ir.Node) -> None:
        for va, vb in _beside(x.inputs, self.pairs[x].inputs, x in self.swapped):
            if va is not None and vb is not None and not va.is_initializer() and not vb.is_initializer():
                self.queue.append((va, vb))

    def _likeness(self, va: Value, vb: Value) -> float:
        """What speaks for two operands being the same: how they are made first, then their labels, then their names."""
        if va is None or vb is None or va.is_initializer() != vb.is_initializer():
            return -8.0
        x, y = va.producer(), vb.producer()
        if x is None or y is None:
            apart = (x is None) != (y is None) or ((va, vb) not in self.seen and not va.is_initializer())
            made = -8.0 if apart else 0.0
        elif x in self.pairs or y in self.back:
            made = 8.0 if self.pairs.get(x) is y else -8.0
        else:
            made = 2.0 if self.a.kinds[x] == self.b.kinds[y] else -2.0
        return made + float(self.a.made.get(va) == self.b.made.get(vb)) + 0.25 * (va.name == vb.name)


def _ports(a: Sequence[ir.Value], b: Sequence[ir.Value]) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Inputs or outputs: by name where the names are the same, else in order."""
    named = {value.name: value for value in b}
    if {value.name for value in a} == set(named):
        return ((value, named[value.name]) for value in a)
    return zip(a, b, strict=False)


def _beside(a: Sequence[Value], b: Sequence[Value], swapped: bool) -> Iterator[tuple[Value, Value]]:
    other = list(b)[::-1] if swapped else list(b)
    for k in range(max(len(a), len(other))):
        yield a[k] if k < len(a) else None, other[k] if k < len(other) else None


_Key = Callable[[_Side, ir.Node, int], Hashable]


def _place(side: _Side, node: ir.Node, index: int) -> Hashable:
    return side.kinds[node], -1 if swaps(node) else index


def _labelled(side: _Side, node: ir.Node, index: int) -> Hashable:
    return _place(side, node, index), side.labels[node]


def _grouped(uses: list[tuple[ir.Node, int]], side: _Side, key: _Key) -> dict[Hashable, list[ir.Node]]:
    found: dict[Hashable, dict[ir.Node, None]] = {}
    for node, index in uses:
        found.setdefault(key(side, node, index), {})[node] = None
    return {group: list(nodes) for group, nodes in found.items()}


def _names(node: ir.Node) -> set[str]:
    """What the node and its constants are called."""
    constants = (value.name for value in node.inputs if value is not None and value.is_initializer())
    return {name for name in (node.name, *constants) if name}


def _bodies(node: ir.Node) -> list[ir.Graph]:
    values = (attribute.value for _, attribute in sorted(node.attributes.items()))
    return [value for value in values if isinstance(value, ir.Graph)]
