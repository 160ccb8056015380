"""Multiple-choice knapsack with crossing costs, solved exactly as an integer program.

Pure: (Space, budget) -> choices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.search.space import Crossing, Option, Space

Objective = Literal["latency", "size", "throughput"]
TIE_BREAK = 1e-6  # of the objective's span: among equally fast plans take the one that loses least


def solve(space: Space, loss_budget: float, objective: Objective = "latency") -> dict[Site, Choice]:
    """The cheapest choices whose summed loss is within the budget.

        min  sum_s sum_o cost(s,o) x(s,o) + sum_v quantize(v) q(v) + dequantize(v) d(v)
        s.t. sum_o x(s,o) = 1 for every site;   sum loss(s,o) x(s,o) <= loss_budget
             q(v) >= int(c) - int(p),  d(v) >= int(p) - int(c)  for producer p and every reader c of value v

    where int(s) is the share of integer options picked at s. Crossing variables may be continuous: minimisation
    drives them to 0 or 1. Loss-free float options make the program feasible for every budget >= 0.
    """
    sites = list(space.options)
    if not sites:
        return {}
    columns = [(site, option) for site in sites for option in space.options[site]]
    crossings = space.crossings if objective != "size" else ()
    program = _Program(columns, crossings)
    result = milp(
        program.costs(_cost_of(objective)),
        integrality=np.r_[np.ones(len(columns)), np.zeros(2 * len(crossings))],
        bounds=Bounds(0, 1),
        constraints=[*program.constraints(sites), program.loss_constraint(loss_budget)],
        options={"mip_rel_gap": 1e-4, "time_limit": 20.0},
    )
    if result.x is None:
        return {site: space.options[site][0].choice for site in sites}
    return _picked(columns, result.x)


def _cost_of(objective: Objective) -> Callable[[Option], float]:
    if objective == "size":
        return lambda option: option.bytes / 1e6
    return lambda option: option.ms


def _picked(columns: list[tuple[Site, Option]], x: np.ndarray) -> dict[Site, Choice]:
    best: dict[Site, tuple[float, Choice]] = {}
    for (site, option), share in zip(columns, x, strict=False):
        if site not in best or share > best[site][0]:
            best[site] = (float(share), option.choice)
    return {site: choice for site, (_, choice) in best.items()}


class _Program:
    """Matrices of the integer program; variables: x per (site, option), then q and d per crossing."""

    def __init__(self, columns: list[tuple[Site, Option]], crossings: tuple[Crossing, ...]) -> None:
        self.columns = columns
        self.crossings = crossings
        self.width = len(columns) + 2 * len(crossings)

    def costs(self, cost: Callable[[Option], float]) -> np.ndarray:
        own = np.array([cost(option) for _, option in self.columns])
        losses = np.array([min(option.loss, 1e3) for _, option in self.columns])
        tie_break = TIE_BREAK * (np.abs(own).sum() or 1.0) * losses / (losses.sum() or 1.0)
        q = [crossing.quantize_ms for crossing in self.crossings]
        d = [crossing.dequantize_ms for crossing in self.crossings]
        return np.concatenate([own + tie_break, q, d])

    def loss_constraint(self, budget: float) -> LinearConstraint:
        losses = np.array([min(option.loss, 1e6) for _, option in self.columns])
        row = np.concatenate([losses, np.zeros(2 * len(self.crossings))])
        return LinearConstraint(row[None, :], -np.inf, budget)

    def constraints(self, sites: list[Site]) -> list[LinearConstraint]:
        index = {site: i for i, site in enumerate(sites)}
        one = lil_matrix((len(sites), self.width))
        for column, (site, _) in enumerate(self.columns):
            one[index[site], column] = 1
        constraints = [LinearConstraint(one.tocsr(), 1, 1)]
        rows = list(self._crossing_rows())
        if rows:
            matrix = lil_matrix((len(rows), self.width))
            for i, row in enumerate(rows):
                for column, value in row.items():
                    matrix[i, column] = value
            constraints.append(LinearConstraint(matrix.tocsr(), 0, np.inf))
        return constraints

    def _crossing_rows(self) -> list[dict[int, float]]:
        integer: dict[Site, list[int]] = {}
        for column, (site, option) in enumerate(self.columns):
            if option.integer:
                integer.setdefault(site, []).append(column)
        rows = []
        for k, crossing in enumerate(self.crossings):
            q, d = len(self.columns) + k, len(self.columns) + len(self.crossings) + k
            from_integer = integer.get(crossing.producer, []) if crossing.producer else []
            for reader in crossing.consumers:
                to_integer = integer.get(reader, [])
                rows.append({q: 1.0, **dict.fromkeys(from_integer, 1.0), **dict.fromkeys(to_integer, -1.0)})
                rows.append({d: 1.0, **dict.fromkeys(from_integer, -1.0), **dict.fromkeys(to_integer, 1.0)})
            if crossing.read_as_float:
                rows.append({d: 1.0, **dict.fromkeys(from_integer, -1.0)})
        return rows
