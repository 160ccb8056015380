"""Channels of one network in the order of another's, coupled groups one after the other.

Maximise over an order for each group the inner product of the first network's tensors with the second's, permuted:

    sum over tensors  < T1, P T2 >          P: the orders of all groups that lie on axes of the tensor

With the orders of all other groups fixed, that is a linear assignment problem in the order of one (weight matching:
Ainsworth, Hayase, Srinivasa 2022, "Git Re-Basin", algorithm 1), solved exactly, group by group until nothing changes.
A group that lies on two axes of a tensor makes it quadratic: there a step is taken only where it gains. What is matched
may also be a matrix of likenesses between positions of activations, of which both axes hold the same groups (activation
matching: Li et al. 2015, Ainsworth et al. section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[Any]
Floats = NDArray[np.float64]
Order = NDArray[np.int64]
Orders = Mapping[str, Order]

SWEEPS = 50
BLIND = 1 << 20  # likenesses of positions, over all pairs of channels, that are looked at to match these blindly
_GAIN = 1e-9  # of the likeness: smaller ones are rounding


@dataclass(frozen=True, eq=False)
class Lying:
    """A group on an axis of a tensor. positions: [channels, m] those of the axis that go with each channel"""

    group: str
    axis: int
    positions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matched:
    """One tensor of both networks, of one shape. lying: the groups on its axes"""

    first: Array
    second: Array
    lying: Sequence[Lying]

    def likeness(self, group: str, orders: Orders) -> Floats:
        """[channels, channels] of the first and the second: what it adds to the sum to put one in place of the other.

        Of a group on several axes, the other axes have the order it has now.
        """
        mine = [one for one in self.lying if one.group == group]
        found = np.zeros((len(mine[0].positions),) * 2)
        for one in mine:
            others = [other for other in self.lying if other is not one]
            found += by_channel(self.first, one) @ by_channel(moved(self.second, others, orders), one).T
        return found

    def blind(self, group: str) -> Floats:
        """As `likeness`, but whatever the other groups' orders are: of the values of each channel, sorted."""
        mine = [one for one in self.lying if one.group == group]
        pairs = [[np.sort(by_channel(array, one)) for array in (self.first, self.second)] for one in mine]
        found: Floats = np.sum([first @ second.T for first, second in pairs], axis=0, dtype=np.float64)
        return found

    def value(self, orders: Orders) -> float:
        """< T1, P T2 >"""
        return float(np.vdot(self.first, moved(self.second, self.lying, orders)))

    def is_linear(self, group: str) -> bool:
        """Whether its value is linear in the order of the group."""
        return sum(one.group == group for one in self.lying) < 2


@dataclass(frozen=True, eq=False)
class Likeness:
    """Likenesses between positions on an axis of the first network's activation and of the second's: [size, size]."""

    matrix: Array
    lying: Sequence[Lying]

    def likeness(self, group: str, orders: Orders) -> Floats:
        """As of `Matched`: the second's other groups in the order they have now."""
        one = next(one for one in self.lying if one.group == group)
        others = [Lying(other.group, 1, other.positions) for other in self.lying if other is not one]
        there = moved(self.matrix, others, orders)
        channels, many = one.positions.shape
        found = np.zeros((channels, channels))
        for k in range(many):
            found += there[np.ix_(one.positions[:, k], one.positions[:, k])]
        return found

    def blind(self, group: str) -> Floats:
        """As `likeness`, but whatever the other groups' orders are: each two channels at their best."""
        places = next(one.positions for one in self.lying if one.group == group)
        if len(self.lying) < 2 or places.size * len(places) > BLIND:
            return self.likeness(group, {})
        found = [[_best(self.matrix[np.ix_(a, b)]) for b in places] for a in places]
        return np.array(found)

    def value(self, orders: Orders) -> float:
        """Sum of the likenesses of what then is in the same place."""
        there = moved(self.matrix, [Lying(one.group, 1, one.positions) for one in self.lying], orders)
        return float(np.trace(there))

    def is_linear(self, group: str) -> bool:
        return True


def moved(array: Array, lying: Sequence[Lying], orders: Orders) -> Array:
    """The array with channels in these orders: in place i is the channel order[i]. Groups without an order stay."""
    for one in lying:
        if one.group in orders:
            order = np.arange(array.shape[one.axis])
            order[one.positions] = one.positions[orders[one.group]]
            array = np.take(array, order, one.axis)
    return array


def by_channel(array: Array, one: Lying) -> Array:
    """[channels, values of each] in float32, or float64 where the array is."""
    rows = np.take(array, one.positions.reshape(-1), one.axis)
    rows = np.moveaxis(rows, one.axis, 0).reshape(len(one.positions), -1)
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)


def assigned(likeness: Floats) -> Order:
    """Which channel of the second goes to each of the first so that the sum of likenesses is the largest."""
    return np.asarray(linear_sum_assignment(likeness, maximize=True)[1], np.int64)


def _best(likeness: Array) -> float:
    return float(likeness[linear_sum_assignment(likeness, maximize=True)].sum())


def match_channels(
    terms: Sequence[Matched | Likeness], sizes: Mapping[str, int], seed: int = 0
) -> dict[str, Order]:
    """An order for each group that no step on one group alone makes better.

    From channels as they are, and from what each group's channels look like whatever the orders of the others are;
    the better end is taken. sizes: channels of each group
    """
    still = {group: np.arange(size) for group, size in sizes.items()}
    ends = [matched_from(start, terms, seed) for start in (still, _blind(terms, still))]
    return max(ends, key=lambda orders: sum(term.value(orders) for term in terms))


def _blind(terms: Sequence[Matched | Likeness], still: Orders) -> dict[str, Order]:
    """Each group matched by itself."""
    found = dict(still)
    for group in still:
        mine = [term.blind(group) for term in terms if any(one.group == group for one in term.lying)]
        if mine and np.isfinite(mine).all():
            found[group] = assigned(np.sum(mine, axis=0))
    return found


def matched_from(start: Orders, terms: Sequence[Matched | Likeness], seed: int = 0) -> dict[str, Order]:
    """Orders that no step on one group alone makes better, from some on. seed: of the groups' turns"""
    orders, sizes = dict(start), {group: len(order) for group, order in start.items()}
    of_group = {group: [term for term in terms if any(one.group == group for one in term.lying)] for group in sizes}
    rng = np.random.default_rng(seed)
    for _ in range(SWEEPS):
        changed = [_improve(str(group), of_group[str(group)], orders) for group in rng.permutation(list(sizes))]
        if not any(changed):
            break
    return orders


def _improve(group: str, terms: Sequence[Matched | Likeness], orders: dict[str, Order]) -> bool:
    """Take the best order of one group, the others as they are; returns whether that was a gain."""
    if not terms:
        return False
    likeness = sum((term.likeness(group, orders) for term in terms), np.zeros((len(orders[group]),) * 2))
    if not np.isfinite(likeness).all():
        return False
    now, best = orders[group], assigned(likeness)
    places = np.arange(len(now))
    if all(term.is_linear(group) for term in terms):
        before, after = likeness[places, now].sum(), likeness[places, best].sum()
    else:
        before, after = (sum(term.value(orders | {group: order}) for term in terms) for order in (now, best))
    if after - before <= _GAIN * max(abs(before), abs(after)):
        return False
    orders[group] = best
    return True
