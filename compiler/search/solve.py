"""Multiple-choice knapsack with crossing costs, solved exactly as an integer program.

Pure: (Space, budget) -> choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.core.silence import STDOUT, silent
from lwc.compiler.search.greedy import greedy
from lwc.compiler.search.ledger import MOST_LOSS, Ledger, Limits, Objective, Totals
from lwc.compiler.search.space import FLOAT32, Option, Space

__all__ = ["Limits", "Objective", "solve"]

Vector = NDArray[np.float64]
SCALE = 1e3  # what all costs sum up to: the solver's tolerances are absolute
TIE_BREAK = 1e-5  # of that sum: among equally good plans take the one that loses least
GAP = 1e-5
SECONDS = 20.0


def solve(
    space: Space, loss_budget: float, objective: Objective = "latency", limits: Limits | None = None
) -> dict[Site, Choice]:
    """The cheapest choices whose summed loss is within the budget, and their sums within the limits.

        min  sum_s sum_o cost(s,o) x(s,o) + sum_v,f enter(v,f) e(v,f) + leave(v,f) l(v,f)
        s.t. sum_o x(s,o) = 1 for every site;   sum loss(s,o) x(s,o) + sum_i loss(i) z(i) <= loss_budget
             e(v,f) >= f(c) - f(p),  l(v,f) >= f(p) - f(c)  for producer p and every reader c of value v
             z(i) >= x(a) + x(b) - 1 where loss(i) > 0,  z(i) <= x(a), x(b) where loss(i) < 0

    where f(s) is the share of options picked at s whose activations have the format f (float32 costs nothing), and i
    an interaction of options a and b. Variables of crossings and interactions may be continuous: minimisation and the
    budget drive them to 0 or 1. For 'size' the cost is bytes, and time breaks ties. Loss-free float options make the
    program feasible for every budget >= 0; limits that no plan within it can hold are passed by as little as possible.
    """
    if not space.options:
        return {}
    program = _Program(space, loss_budget)
    weights, allowed = program.weights(objective), limits or Limits()
    x = program.minimise(weights, allowed)
    if x is None and allowed != Limits():
        x = program.come_close(weights, allowed)
    if x is None:  # no time left, or not even float is within the budget
        return greedy(space, loss_budget, objective, allowed)
    return _without_ties(program, x, objective, allowed)


@dataclass(frozen=True)
class _Change:
    """A value enters or leaves a format: one variable, at least share(above) - share(below) for each row.

    above, below: columns of the options whose shares are summed
    """

    ms: float
    rows: tuple[tuple[Sequence[int], Sequence[int]], ...]


@dataclass(frozen=True)
class _Program:
    """The integer program; variables: one per (site, option), then one per format change, then one per interaction."""

    space: Space
    loss_budget: float

    @cached_property
    def columns(self) -> list[tuple[Site, Option]]:
        return [(site, option) for site, options in self.space.options.items() for option in options]

    @cached_property
    def changes(self) -> list[_Change]:
        """What crossings may cost, free ones left out."""
        return [change for change in _changes(self.space, self.columns) if change.ms > 0.0]

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Columns of both options of every interaction."""
        numbers = {(site, option.choice): k for k, (site, option) in enumerate(self.columns)}
        return [(numbers[pair.first], numbers[pair.second]) for pair in self.space.interactions]

    @cached_property
    def ms(self) -> Vector:
        return self._vector([option.ms for _, option in self.columns], [change.ms for change in self.changes])

    @cached_property
    def bytes(self) -> Vector:
        return self._vector([float(option.bytes) for _, option in self.columns])

    @cached_property
    def losses(self) -> Vector:
        alone = [min(option.loss, MOST_LOSS) for _, option in self.columns]
        return self._vector(alone, together=[pair.loss for pair in self.space.interactions])

    @cached_property
    def offered(self) -> Vector:
        """Upper bounds: 0 for an option that loses more than the whole budget, whatever it is picked with.

        With no budget at all, which has no row of its own, for all that loses anything.
        """
        least = self.losses.copy()
        if self.loss_budget > 0.0:
            least[len(self.columns) :] = 0.0
            for columns, pair in zip(self.pairs, self.space.interactions, strict=True):
                least[list(columns)] += min(0.0, pair.loss)
        return np.where(least <= self.loss_budget, 1.0, 0.0)

    def weights(self, objective: Objective) -> Vector:
        """What is minimised."""
        if objective == "size":
            return SCALE * (_share(self.bytes) + TIE_BREAK * (_share(self.ms) + _share(self.losses)))
        return SCALE * (_share(self.ms) + TIE_BREAK * _share(self.losses))

    def minimise(self, weights: Vector, limits: Limits) -> Vector | None:
        """Values of all variables; None when no plan is within all bounds."""
        rows, bounds = self._bounded(limits)
        return self._run(weights, rows, bounds)

    def come_close(self, weights: Vector, limits: Limits) -> Vector | None:
        """As `minimise`, but limits may be passed, and by how much counts before all else."""
        rows, bounds = self._bounded(limits)
        loosened = sum(isfinite(limit) for limit in (limits.ms, limits.bytes))
        return self._run(weights * TIE_BREAK, rows, bounds, loosened)

    def _bounded(self, limits: Limits) -> tuple[list[Vector], list[float]]:
        """Rows and their upper bounds: limits first, then the loss.

        The loss is counted in budgets, which may be far below the solver's tolerance of 1e-6.
        """
        rows, bounds = [], []
        for sums, limit in ((self.ms, limits.ms), (self.bytes, limits.bytes)):
            if isfinite(limit):
                rows.append(_share(sums))
                bounds.append(limit / (float(np.abs(sums).sum()) or 1.0))
        if 0.0 < self.loss_budget < inf:
            rows.append(np.where(self.offered > 0.0, self.losses / self.loss_budget, 0.0))
            bounds.append(1.0)
        return rows, bounds

    def _run(self, weights: Vector, rows: list[Vector], bounds: list[float], loosened: int = 0) -> Vector | None:
        """loosened: how many of the first rows get a variable of cost 1 that takes what is over the bound."""
        constraints = self._structure(len(weights) + loosened)
        if rows:
            slack = -np.eye(len(rows), loosened)
            constraints.append(LinearConstraint(np.c_[np.array(rows), slack], -inf, np.array(bounds)))
        with silent(STDOUT):
            result = milp(
                np.r_[weights, np.ones(loosened)],
                integrality=np.where(np.arange(len(weights) + loosened) < len(self.columns), 1, 0),
                bounds=Bounds(0.0, np.r_[self.offered, np.full(loosened, inf)]),
                constraints=constraints,
                options={"mip_rel_gap": GAP, "time_limit": SECONDS},
            )
        return None if result.x is None else np.asarray(result.x)

    def _structure(self, width: int) -> list[LinearConstraint]:
        """One option per site; format changes and interactions follow from the options."""
        order = {site: row for row, site in enumerate(self.space.options)}
        one = [(order[site], column, 1.0) for column, (site, _) in enumerate(self.columns)]
        constraints = [LinearConstraint(_matrix(one, len(order), width), 1, 1)]
        follow = [(k, row) for k, change in enumerate(self.changes) for row in change.rows]
        entries = []
        for i, (k, (above, below)) in enumerate(follow):
            entries.append((i, len(self.columns) + k, 1.0))
            entries += [(i, column, -1.0) for column in above] + [(i, column, 1.0) for column in below]
        if entries:
            constraints.append(LinearConstraint(_matrix(entries, len(follow), width), 0, inf))
        return constraints + self._products(width)

    def _products(self, width: int) -> list[LinearConstraint]:
        """What holds the variable of an interaction, which the budget pushes down or up, at the product of both."""
        entries: list[tuple[int, int, float]] = []
        least: list[float] = []
        first = len(self.columns) + len(self.changes)
        for k, (columns, pair) in enumerate(zip(self.pairs, self.space.interactions, strict=True)):
            if pair.loss > 0.0:
                entries += [(len(least), first + k, 1.0), *((len(least), column, -1.0) for column in columns)]
                least.append(-1.0)
            else:
                for column in columns:
                    entries += [(len(least), first + k, -1.0), (len(least), column, 1.0)]
                    least.append(0.0)
        return [LinearConstraint(_matrix(entries, len(least), width), np.array(least), inf)] if entries else []

    def _vector(
        self, options: Sequence[float], changes: Sequence[float] = (), together: Sequence[float] = ()
    ) -> Vector:
        """One number per variable, 0 where none are given."""
        changed, paired = [0.0] * len(self.changes), [0.0] * len(self.space.interactions)
        return np.array([*options, *(changes or changed), *(together or paired)])


def _changes(space: Space, columns: Sequence[tuple[Site, Option]]) -> Iterator[_Change]:
    """The ways in which each crossing may enter or leave a format, with the columns that make it do so."""
    having: dict[str, dict[Site, list[int]]] = {}
    for column, (site, option) in enumerate(columns):
        if option.activations != FLOAT32:
            having.setdefault(option.activations, {}).setdefault(site, []).append(column)
    for crossing in space.crossings:
        for activations, at in having.items():
            made = at.get(crossing.producer, []) if crossing.producer is not None else []
            read = [at.get(site, []) for site in crossing.consumers]
            if any(read):
                rows = tuple((reader, made) for reader in read if reader)
                yield _Change(crossing.enter_ms(activations), rows)
            if made and (read or crossing.read_as_float):
                rows = tuple((made, reader) for reader in (*read, *([[]] if crossing.read_as_float else [])))
                yield _Change(crossing.leave_ms(activations), rows)


def _without_ties(program: _Program, x: Vector, objective: Objective, limits: Limits) -> dict[Site, Choice]:
    """The picked options, each replaced by one that is as good for the objective and better otherwise.

    The solver stops within a gap of the optimum, which ties are smaller than.
    """
    ledger = Ledger(program.space, _picked(program.columns, x))
    for site, options in program.space.options.items():
        now = ledger.totals
        loss, overshoot = max(program.loss_budget, now.loss), now.overshoot(limits)

        def rank(option: Option, site: Site = site, now: Totals = now) -> tuple[float, ...]:
            grown = ledger.change({site: option})
            ms = round(grown.ms / now.ms, 9) if now.ms else grown.ms
            return (grown.bytes, ms, grown.loss) if objective == "size" else (ms, grown.loss, grown.bytes)

        fitting = [
            option
            for option in options
            if option is ledger.picked[site]
            or ((after := ledger.after({site: option})).loss <= loss and after.overshoot(limits) <= overshoot)
        ]
        best = min(fitting, key=rank)
        if best is not ledger.picked[site]:
            ledger.apply({site: best})
    return ledger.choices


def _picked(columns: Sequence[tuple[Site, Option]], x: Vector) -> dict[Site, Choice]:
    """Per site the option with the largest share."""
    best: dict[Site, tuple[float, Choice]] = {}
    for (site, option), share in zip(columns, x, strict=False):
        if site not in best or share > best[site][0]:
            best[site] = (float(share), option.choice)
    return {site: choice for site, (_, choice) in best.items()}


def _matrix(entries: Sequence[tuple[int, int, float]], height: int, width: int) -> csr_array:
    rows, columns, values = zip(*entries, strict=True)
    return csr_array((values, (rows, columns)), shape=(height, width))


def _share(costs: Vector) -> Vector:
    total = float(np.abs(costs).sum())
    return costs / total if total else costs
