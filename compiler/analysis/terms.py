"""What an axis is made of: channels that stand alone, products where axes were joined, sums where they were stacked.

    Atom(n)               n channels
    Product(t1, t2 ...)   an axis that was flattened, the first factor outermost
    Sum(t1, t2 ...)       an axis that was concatenated

Rules unify the terms of axes that must lose the same positions, by union-find with binding (Robinson 1965):

    Atom ~ t              the atom becomes t
    Product ~ Product     factors pair from the last on; the larger one splits where the smaller divides it
    Sum ~ Sum             parts pair from the first on; the larger one splits
    Sum ~ Product         p1 x rest: parts of q_i |rest| each make p1 the sum of the q_i, and each part q_i x rest;
                          where all q_i are 1, p1 only counts parts and is pinned
    anything else         both are pinned: none of their channels leaves

A part is always smaller than the whole, so no term comes to hold itself. Every step merges two terms or splits one, and
what is merged is never compared again.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Term = int
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Reason:
    """Why channels stay: an operator, the name of its node, and words."""

    operator: str
    node: str
    words: str


@dataclass(frozen=True)
class Product:
    factors: tuple[Term, ...]


@dataclass(frozen=True)
class Sum:
    parts: tuple[Term, ...]


@dataclass
class Terms:
    """An arena of terms, each a number. What is pinned is settled when asked for: it changes no unification."""

    _parent: list[Term] = field(default_factory=list)
    _size: list[int] = field(default_factory=list)
    _form: list[Product | Sum | None] = field(default_factory=list)
    _pins: list[tuple[Term, Reason]] = field(default_factory=list)
    _atoms: dict[Term, tuple[Term, ...]] = field(default_factory=dict)

    def atom(self, size: int) -> Term:
        """New channels, related to none."""
        return self._new(size, None)

    def product(self, factors: Sequence[Term]) -> Term:
        """The axis that joins these, the first outermost. Factors of one channel are none."""
        many = [factor for factor in factors if self.size(factor) > 1] or factors[:1]
        return many[0] if len(many) == 1 else self._new(self._volume(many), Product(tuple(many)))

    def sum(self, parts: Sequence[Term]) -> Term:
        """The axis that stacks these."""
        return parts[0] if len(parts) == 1 else self._new(sum(map(self.size, parts)), Sum(tuple(parts)))

    def size(self, term: Term) -> int:
        """How many positions the axis has."""
        return self._size[term]

    def same(self, a: Term, b: Term) -> bool:
        """Whether two terms are known to be one."""
        return self.find(a) == self.find(b)

    def pin(self, term: Term, reason: Reason) -> None:
        """No channel of the term may leave."""
        self._pins.append((term, reason))

    def unify(self, a: Term, b: Term, reason: Reason) -> None:
        """Both must lose the same positions; where they do not fit they are pinned for this reason."""
        work = [(a, b)]
        while work:
            x, y = map(self.find, work.pop())
            if x != y:
                work += self._step(x, y, reason)

    def atoms(self, term: Term) -> tuple[Term, ...]:
        """The channels a term is made of, each once, from left to right. Call it after the last unification."""
        for root in self._below(term, self._atoms):
            found = (atom for child in self._flat(root) for atom in self._atoms[child])
            self._atoms[root] = tuple(dict.fromkeys(found)) or (root,)
        return self._atoms[self.find(term)]

    def pinned(self) -> dict[Term, Reason]:
        """Every atom that stays, and the first reason why."""
        found: dict[Term, Reason] = {}
        seen: set[Term] = set()
        for term, reason in self._pins:
            root = self.find(term)
            if root not in seen:
                seen.add(root)
                for atom in self.atoms(root):
                    found.setdefault(atom, reason)
        return found

    def positions(self, term: Term) -> dict[Term, Positions]:
        """Per atom the positions on the axis that leave with each of its channels: [channels, m], ascending."""
        found: dict[Term, dict[Term, Positions]] = {}
        for root in self._below(term, found):
            found[root] = self._placed(root, found)
        return found[self.find(term)]

    def _placed(self, root: Term, below: Mapping[Term, dict[Term, Positions]]) -> dict[Term, Positions]:
        """Positions on an axis from those on its children."""
        form, size = self._form[root], self._size[root]
        if form is None:
            return {root: np.arange(size)[:, None]}
        found: dict[Term, list[Positions]] = {}
        stride, start = size, 0
        for child in self._flat(root):
            if isinstance(form, Product):
                outer, stride = size // stride, stride // self.size(child)
                shift = (np.arange(outer)[:, None] * (self.size(child) * stride) + np.arange(stride)).reshape(-1)
            else:
                stride, shift = 1, np.array([start])
                start += self.size(child)
            for atom, places in below[child].items():
                spread = (places[:, :, None] * stride + shift).reshape(len(places), -1)
                found.setdefault(atom, []).append(spread)
        return {atom: np.sort(np.concatenate(parts, axis=1), axis=1) for atom, parts in found.items()}

    def keep(self, term: Term, kept: Mapping[Term, Mask]) -> Mask:
        """Which positions of the axis stay when atoms keep these channels: [size]. Absent atoms keep all."""
        masks = dict(kept)
        if any(atom in kept for atom in self.atoms(term)):
            for root in self._below(term, masks):
                masks[root] = self._masked(root, masks)
        root = self.find(term)
        return masks[root] if root in masks else np.ones(self._size[root], np.bool_)

    def _masked(self, root: Term, below: Mapping[Term, Mask]) -> Mask:
        masks = [below[child] for child in self._flat(root)]
        if not masks:
            return np.ones(self._size[root], np.bool_)
        if isinstance(self._form[root], Sum):
            return np.concatenate(masks)
        whole = np.ones(1, np.bool_)
        for mask in masks:
            whole = (whole[:, None] & mask).reshape(-1)
        return whole

    def _below(self, term: Term, known: Container[Term]) -> list[Term]:
        """The term and all that it is made of, parts before wholes, without what is known and what only that needs.

        No recursion: concatenations of concatenations go thousands deep.
        """
        order: list[Term] = []
        seen: set[Term] = set()
        todo = [(self.find(term), False)]
        while todo:
            root, complete = todo.pop()
            if complete:
                order.append(root)
            elif root not in seen and root not in known:
                seen.add(root)
                todo.append((root, True))
                todo += [(child, False) for child in reversed(self._flat(root))]
        return order

    def find(self, term: Term) -> Term:
        """The term that stands for all that are one with it."""
        root = term
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[term] != root:
            self._parent[term], term = root, self._parent[term]
        return root

    def _new(self, size: int, form: Product | Sum | None) -> Term:
        term = len(self._parent)
        self._parent.append(term)
        self._size.append(size)
        self._form.append(form)
        return term

    def _volume(self, factors: Iterable[Term]) -> int:
        return math.prod(map(self.size, factors))

    def _children(self, root: Term) -> tuple[Term, ...]:
        form = self._form[root]
        return () if form is None else form.factors if isinstance(form, Product) else form.parts

    def _flat(self, root: Term) -> list[Term]:
        """The children of a root, those of its own kind replaced by their children."""
        kind, found, todo = type(self._form[root]), [], list(reversed(self._children(root)))
        while todo:
            child = self.find(todo.pop())
            if isinstance(self._form[child], kind):
                todo += reversed(self._children(child))
            elif self._size[child] > 1 or kind is Sum:
                found.append(child)
        return found

    def _step(self, x: Term, y: Term, reason: Reason) -> list[tuple[Term, Term]]:
        """Merge two roots; returns what of their parts is to be unified."""
        if self._size[x] != self._size[y]:
            return self._misfit([x, y], reason)
        forms = self._form[x], self._form[y]
        if forms[0] is None or (forms[1] is not None and isinstance(forms[0], Product) and isinstance(forms[1], Sum)):
            x, y, forms = y, x, (forms[1], forms[0])
        if forms[1] is None:
            self._parent[y] = x
            return []
        if isinstance(forms[0], Sum) and isinstance(forms[1], Product):
            return self._sum_of_product(x, y, reason)
        self._parent[y] = x
        pair = self._pair_factors if isinstance(forms[0], Product) else self._pair_parts
        return pair(self._flat(x), self._flat(y), reason)

    def _pair_factors(self, left: list[Term], right: list[Term], reason: Reason) -> list[tuple[Term, Term]]:
        pairs: list[tuple[Term, Term]] = []
        while left and right:
            small, large = (left, right) if self.size(left[-1]) <= self.size(right[-1]) else (right, left)
            inner, whole = small.pop(), large.pop()
            if self.size(whole) % self.size(inner):
                return [*pairs, *self._misfit([*small, *large, inner, whole], reason)]
            if self.size(inner) == self.size(whole):
                pairs.append((inner, whole))
                continue
            outer = self.atom(self.size(whole) // self.size(inner))
            pairs.append((whole, self.product([outer, inner])))
            large.append(outer)
        return pairs

    def _pair_parts(self, left: list[Term], right: list[Term], reason: Reason) -> list[tuple[Term, Term]]:
        pairs = []
        left.reverse()
        right.reverse()
        while left and right:
            small, large = (left, right) if self.size(left[-1]) <= self.size(right[-1]) else (right, left)
            first, whole = small.pop(), large.pop()
            if self.size(first) == self.size(whole):
                pairs.append((first, whole))
                continue
            second = self.atom(self.size(whole) - self.size(first))
            pairs.append((whole, self.sum([first, second])))
            large.append(second)
        return pairs

    def _sum_of_product(self, stacked: Term, joined: Term, reason: Reason) -> list[tuple[Term, Term]]:
        outer, *rest = self._flat(joined)
        inner = self._volume(rest)
        blocks: list[list[Term]] = [[]]
        for part in self._flat(stacked):
            if sum(map(self.size, blocks[-1])) % inner == 0 and blocks[-1]:
                blocks.append([])
            blocks[-1].append(part)
        counts = [sum(map(self.size, block)) // inner for block in blocks]
        if any(len(block) > 1 and count > 1 for block, count in zip(blocks, counts, strict=True)):
            return self._misfit([stacked, joined], reason)
        self._parent[joined] = stacked
        sums = [self.sum(block) for block in blocks]
        if max(counts) == 1:
            self.pin(outer, Reason(reason.operator, reason.node, "it counts parts that are stacked"))
            return [(part, self.product(rest)) for part in sums]
        outers = [self.atom(count) for count in counts]
        pairs = [(outer, self.sum(outers))]
        return pairs + [(part, self.product([q, *rest])) for part, q in zip(sums, outers, strict=True)]

    def _misfit(self, terms: Iterable[Term], reason: Reason) -> list[tuple[Term, Term]]:
        for term in terms:
            self.pin(term, reason)
        return []
