"""Greedy choice by gain per loss, and bisection under an accuracy limit.

Schaefer et al. 2023 (sensitivity-guided search) order layers by sensitivity and find by bisection, or one layer after
the other, how many can be changed under an accuracy limit; MPTQ-ViT (2024) lowers precision greedily where it hurts
least. Differences: options have measured costs, so layers are ordered by what a change gains per loss; sites that
share a value also change together, because one integer site between float ones gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.search.ledger import Ledger, Limits, Objective
from lwc.compiler.search.space import Option, Space

Vector = NDArray[np.float64]
Move = Mapping[Site, Option]
LEAST_GAIN = 1e-9  # of the cost: below it, rounding looks like a gain
OVER_LIMIT = 1e3  # weight of a share by which a limit is passed
LOSS = 2  # column of `growth`


def greedy(
    space: Space, loss_budget: float, objective: Objective = "latency", limits: Limits | None = None
) -> dict[Site, Choice]:
    """The best plan that greedy steps reach from float and from every uniform plan; the same task as `solve`.

    From a start over the budget, first the moves that cost least per loss taken back, then those that gain most per
    loss added.
    """
    if not space.options:
        return {}
    ends = []
    for start in uniform_plans(space):
        climb = Climb(Ledger(space, start), objective, limits or Limits())
        climb.repair(loss_budget)
        climb.improve(loss_budget)
        ends.append(climb)
    # Where two choices together lose less than each alone, no single move may lead back to the budget.
    return min(ends, key=lambda climb: (climb.loss > loss_budget, climb.cost(), climb.loss)).ledger.choices


def uniform_plans(space: Space) -> list[dict[Site, Choice]]:
    """All sites in float, and for every format that is offered all sites that offer it in that one."""
    offered = sorted(space.formats().items(), key=lambda item: repr(item[0]))
    return [space.start, *(space.complete(dict.fromkeys(sites, choice)) for choice, sites in offered)]


def path(
    space: Space,
    start: Mapping[Site, Choice],
    objective: Objective = "latency",
    limits: Limits | None = None,
) -> list[dict[Site, Choice]]:
    """Every plan on the greedy way from the start to the cheapest, each one move bolder than the one before."""
    if not space.options:
        return [{}]
    climb = Climb(Ledger(space, start), objective, limits or Limits())
    plans = [climb.ledger.choices]
    plans.extend(climb.ledger.choices for _ in climb.steps(inf))
    return plans


def boldest(plans: Sequence[dict[Site, Choice]], holds: Callable[[dict[Site, Choice]], bool]) -> dict[Site, Choice]:
    """The last of the plans that holds, by bisection: exact where no plan holds behind one that does not.

    The first is taken to hold. `holds` is asked some log2 of their number times.
    """
    if holds(plans[-1]):
        return plans[-1]
    holding, failing = 0, len(plans) - 1
    while failing - holding > 1:
        middle = (holding + failing) // 2
        if holds(plans[middle]):
            holding = middle
        else:
            failing = middle
    return plans[holding]


@dataclass
class Climb:
    """Greedy steps over one ledger, which they change.

    growth: [moves, 3] what each move adds to ms, bytes and loss; priced anew when a neighbour of its sites has moved
    """

    ledger: Ledger
    objective: Objective
    limits: Limits
    moves: list[Move] = field(init=False)
    growth: Vector = field(init=False)
    moves_of: dict[Site, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.moves = list(_moves(self.ledger.space, self.objective))
        self.growth = np.array([self._grown(move) for move in self.moves])
        for k, move in enumerate(self.moves):
            for site in move:
                self.moves_of.setdefault(site, []).append(k)

    def cost(self) -> float:
        """The objective, and far above it what is over the limits."""
        totals = self.ledger.totals
        return float(self._costs(np.array([[totals.ms, totals.bytes, totals.loss]]))[0])

    @property
    def loss(self) -> float:
        return self.ledger.totals.loss

    def improve(self, loss_budget: float) -> None:
        """Take moves that gain most per loss while there are any within the budget."""
        for _ in self.steps(loss_budget):
            pass

    def steps(self, loss_budget: float) -> Iterator[Move]:
        """The moves of `improve`, each after it was made."""
        while (best := _highest(self._gain_per_loss(loss_budget))) is not None:
            self._make(best)
            yield self.moves[best]

    def repair(self, loss_budget: float) -> None:
        """Take moves that cost least per loss taken back, until the loss is within the budget or nothing lowers it."""
        while self.ledger.totals.loss > loss_budget and (best := _highest(self._loss_per_cost())) is not None:
            self._make(best)
            if self.ledger.totals.loss <= loss_budget:
                self.ledger.recount()

    def _gain_per_loss(self, loss_budget: float) -> Vector:
        after, before = self._after(), self.cost()
        gain = before - self._costs(after)
        fits = (after[:, LOSS] <= loss_budget) | (self.growth[:, LOSS] <= 0.0)
        worth = gain / np.maximum(self.growth[:, LOSS], 1e-12)
        return np.where(fits & (gain > LEAST_GAIN * before), worth, 0.0)

    def _loss_per_cost(self) -> Vector:
        before, relief = self.cost(), -self.growth[:, LOSS]
        price = np.maximum(self._costs(self._after()) - before, 1e-9 * max(before, 1e-9))
        return np.where(relief > LEAST_GAIN * self.ledger.totals.loss, relief / price, 0.0)

    def _after(self) -> Vector:
        totals = self.ledger.totals
        return np.add(self.growth, [totals.ms, totals.bytes, totals.loss])

    def _costs(self, totals: Vector) -> Vector:
        ms, size = totals[:, 0], totals[:, 1]
        over = np.zeros(len(totals))
        for sums, limit in ((ms, self.limits.ms), (size, self.limits.bytes)):
            if isfinite(limit):
                over = over + np.maximum(sums - limit, 0.0) / max(abs(limit), 1e-9)
        cost = size if self.objective == "size" else ms
        return cost * (1.0 + OVER_LIMIT * over) + OVER_LIMIT * over

    def _make(self, k: int) -> None:
        move = self.moves[k]
        self.ledger.apply(move)
        near = dict.fromkeys(other for site in move for other in self.ledger.neighbours(site))
        for other in dict.fromkeys(number for site in near for number in self.moves_of[site]):
            self.growth[other] = self._grown(self.moves[other])

    def _grown(self, move: Move) -> tuple[float, float, float]:
        grown = self.ledger.change(move)
        return grown.ms, grown.bytes, grown.loss


def _highest(worth: Vector) -> int | None:
    """Number of the highest worth; None when none is above zero."""
    best = int(np.argmax(worth))
    return best if worth[best] > 0.0 else None


def _moves(space: Space, objective: Objective) -> Iterator[Move]:
    """Every option of every site; and for sites that share a value, all of them to one format of activations."""
    for site, options in space.options.items():
        for option in options:
            yield {site: option}
    seen: set[tuple[tuple[Site, ...], str]] = set()
    for crossing in space.crossings:
        sites = tuple(dict.fromkeys(crossing.sites))
        formats = {option.activations: None for site in sites for option in space.options[site]}
        for activations in formats:
            if (sites, activations) in seen:
                continue
            seen.add((sites, activations))
            together = _together(space, sites, activations, objective)
            if len(together) > 1:
                yield together


def _together(space: Space, sites: Sequence[Site], activations: str, objective: Objective) -> dict[Site, Option]:
    """The cheapest option with these activations of each site that has one."""
    offered = {site: [o for o in space.options[site] if o.activations == activations] for site in sites}
    return {
        site: min(options, key=lambda o: (o.bytes, o.ms) if objective == "size" else (o.ms, o.bytes))
        for site, options in offered.items()
        if options
    }
