"""What a plan is predicted to cost, and what single changes would make of it.

A change is priced by its own sites and the crossings and interactions around them, so that thousands are priced in a
second.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from math import inf
from typing import Literal

from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.search.space import Crossing, Interaction, Option, Space, crossing_ms

Objective = Literal["latency", "size", "throughput"]
MOST_LOSS = 1e6  # what an infinite loss counts, so that sums stay numbers


@dataclass(frozen=True)
class Limits:
    """Hard budgets of the sites together, crossings included."""

    ms: float = inf
    bytes: float = inf


@dataclass(frozen=True)
class Totals:
    """Predicted sums over all sites; ms holds the crossings."""

    ms: float
    bytes: float
    loss: float

    def cost(self, objective: Objective) -> float:
        """What the objective minimises: milliseconds, or bytes. A run's time is the inverse of the throughput."""
        return self.bytes if objective == "size" else self.ms

    def overshoot(self, limits: Limits) -> float:
        """By how much the limits are passed, in shares of them."""
        passed = ((self.ms, limits.ms), (self.bytes, limits.bytes))
        return sum((total - limit) / max(abs(limit), 1e-9) for total, limit in passed if total > limit)


class Ledger:
    """Running totals of one assignment of options to sites."""

    def __init__(self, space: Space, choices: Mapping[Site, Choice]) -> None:
        """choices: sites that are absent have their first option."""
        self.space = space
        self.picked = {site: space.option(site, choice) for site, choice in space.complete(choices).items()}
        self.touching: dict[Site, tuple[Crossing, ...]] = dict.fromkeys(self.picked, ())
        for crossing in space.crossings:
            for site in dict.fromkeys(crossing.sites):
                self.touching[site] = (*self.touching[site], crossing)
        self.interacting: dict[Site, tuple[Interaction, ...]] = dict.fromkeys(self.picked, ())
        for pair in space.interactions:
            for site in pair.sites:
                self.interacting[site] = (*self.interacting[site], pair)
        self.totals = self._counted()

    @property
    def choices(self) -> dict[Site, Choice]:
        """The assignment; every site of the space is in it."""
        return {site: option.choice for site, option in self.picked.items()}

    def change(self, changes: Mapping[Site, Option]) -> Totals:
        """What the totals would grow by under the changes; negative where they shrink."""
        picked = ChainMap(dict(changes), self.picked)
        crossings = {crossing.value: crossing for site in changes for crossing in self.touching[site]}
        interactions = {pair: None for site in changes for pair in self.interacting[site]}
        steps = [(option, self.picked[site]) for site, option in changes.items()]
        return Totals(
            sum(new.ms - old.ms for new, old in steps)
            + sum(
                crossing_ms(crossing, picked) - crossing_ms(crossing, self.picked) for crossing in crossings.values()
            ),
            sum(new.bytes - old.bytes for new, old in steps),
            sum(_loss(new) - _loss(old) for new, old in steps)
            + sum(pair.loss * (pair.counts(picked) - pair.counts(self.picked)) for pair in interactions),
        )

    def after(self, changes: Mapping[Site, Option]) -> Totals:
        """The totals under the changes."""
        grown = self.change(changes)
        return Totals(self.totals.ms + grown.ms, self.totals.bytes + grown.bytes, self.totals.loss + grown.loss)

    def apply(self, changes: Mapping[Site, Option]) -> None:
        """Make the changes."""
        self.totals = self.after(changes)
        self.picked.update(changes)

    def recount(self) -> None:
        """Sum the totals anew: changes that are added one to another leave their rounding behind."""
        self.totals = self._counted()

    def fork(self) -> Ledger:
        """Another ledger with the same assignment."""
        other = copy(self)
        other.picked = dict(self.picked)
        return other

    def neighbours(self, site: Site) -> dict[Site, None]:
        """The sites that share a value or interact with this one, itself among them."""
        sharing = (other for crossing in self.touching[site] for other in crossing.sites)
        return dict.fromkeys((site, *sharing, *(other for pair in self.interacting[site] for other in pair.sites)))

    def _counted(self) -> Totals:
        options = self.picked.values()
        return Totals(
            sum(option.ms for option in options) + sum(crossing_ms(c, self.picked) for c in self.space.crossings),
            sum(option.bytes for option in options),
            sum(_loss(option) for option in options)
            + sum(pair.loss for pair in self.space.interactions if pair.counts(self.picked)),
        )


def _loss(option: Option) -> float:
    return min(option.loss, MOST_LOSS)


def limits_for(
    space: Space, float_ms: float, float_bytes: float, max_ms: float | None = None, max_bytes: float | None = None
) -> Limits:
    """What hard budgets of the whole model leave to its sites, the rest of it being as in float.

    float_ms, float_bytes: measured of the whole cleaned model. Profiled times of sites may sum up to more than that:
    then they are taken to be too long by that factor everywhere.
    """
    sites = Ledger(space, {}).totals
    scale = min(1.0, float_ms / sites.ms) if sites.ms else 1.0
    rest_ms, rest_bytes = float_ms - sites.ms * scale, max(0.0, float_bytes - sites.bytes)
    return Limits(
        inf if max_ms is None else (max_ms - rest_ms) / scale,
        inf if max_bytes is None else max_bytes - rest_bytes,
    )
