"""Evolution with end-to-end evaluation: layers' errors do not simply add up.

EvoPress (Sieberling et al. 2024): one parent; offspring by level switches (one unit is compressed less, another more,
so that the whole costs the same); selection in steps, many offspring on few samples, then few on all. Differences:
levels are options with measured costs, so a switch is any change and another that pays for it; a partner is the one of
a few drawn at random that is predicted to lose least; and what is bought with the noise can also be cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf

import numpy as np

from lwc.compiler.core.plan import Choice, Plan, Range, Site
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.ledger import Ledger, Limits, Objective, Totals
from lwc.compiler.search.space import Option, Space, plan_of

Choices = Mapping[Site, Choice]
Noise = Callable[[Choices, int], float]
Move = dict[Site, Option]

ATTEMPTS = 8  # draws of an offspring before a generation goes on without it
PARTNERS = 6  # drawn for a switch, of which the one that is predicted to lose least is taken
TOGETHER = 0.25  # share of changes that take the neighbours along
ROUNDING = 1e-9  # of the cost
MULTIPLY_ADDS = 4e11  # of all the runs together: some 10 s on two cores
WORTH_A_SEARCH = 0.03  # of the cost: what must be left to gain at least
SESSION = 5 * 10**9  # multiply-adds that take as long as making a session
DISAGREE = 1.5  # times: a measured noise so far off the predicted sum is no matter of the samples


@dataclass(frozen=True)
class Goal:
    """What is better. Noise up to `enough` is as good as none: then the cheaper plan wins; above, the quieter.

    most_cost: no offspring may be predicted to cost more;  limits: nor to pass these further than the start does
    """

    objective: Objective = "latency"
    most_cost: float = inf
    enough: float = 0.0
    limits: Limits = field(default_factory=Limits)

    def rank(self, noise: float, totals: Totals) -> tuple[float, float]:
        return max(noise, self.enough), totals.cost(self.objective)


@dataclass(frozen=True)
class Stage:
    """One step of selection: offspring are ranked on the first `samples` samples, and `survivors` go on."""

    samples: int
    survivors: int


@dataclass(frozen=True)
class Effort:
    """How long to search. patience: generations without a better plan after which it ends."""

    generations: int = 8
    offspring: int = 10
    switches: int = 3
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Evolved:
    """The best plan found, never worse than the start; noise is measured on all samples.

    evaluations: measurements made, those that were known before left out
    """

    choices: dict[Site, Choice]
    noise: float
    totals: Totals
    start_noise: float
    start_totals: Totals
    generations: int
    evaluations: int

    @property
    def improved(self) -> bool:
        return (self.noise, self.totals) != (self.start_noise, self.start_totals)


def disagree(predicted: float, measured: float, times: float = DISAGREE) -> bool:
    """Whether the sum of single losses says something else than the measured noise of the whole."""
    low, high = sorted((max(predicted, 0.0), max(measured, 0.0)))
    return high > times * low and high > 0.0


def effort_for(macs: int, samples: int, seed: int = 0) -> Effort:
    """As many generations as the multiply-adds allow, the same on every machine; none where they allow less than two.

    macs: of one run of the model;  samples: what the last stage looks at
    """
    offspring = Effort.offspring
    cost = 0
    for stage in stages_for(samples):
        cost += offspring * (macs * stage.samples + SESSION)
        offspring = min(offspring, stage.survivors)
    generations = min(Effort.generations, int(MULTIPLY_ADDS / cost))
    return Effort(generations if generations > 1 else 0, seed=seed)


def stages_for(samples: int) -> tuple[Stage, ...]:
    """A sixteenth of the samples, then a quarter, then all."""
    counts = sorted({max(1, samples // 16), max(1, samples // 4), max(1, samples)})
    return tuple(Stage(count, survivors) for count, survivors in zip(counts, (4, 2, 1)[-len(counts) :], strict=True))


def quieter(space: Space, start: Choices, objective: Objective = "latency", limits: Limits | None = None) -> Goal:
    """Less measured noise at no more predicted cost than the start's."""
    return Goal(objective, Ledger(space, start).totals.cost(objective), 0.0, limits or Limits())


def noise_on(bench: Workbench, ranges: Mapping[str, Range]) -> Noise:
    """Measured noise of choices on the first samples, kept in the bench's cache by plan digest."""
    return lambda choices, count: bench.noise(plan_of(choices, ranges), count)


def refine(
    bench: Workbench, space: Space, plan: Plan, goal: Goal, effort: Effort, each: Callable[[], None] = lambda: None
) -> Plan:
    """A cheaper plan of no more measured noise than this one, where predicted and measured loss disagree; else it.

    goal: its `enough` is set to the plan's own noise;  each: called after every generation
    """
    samples = len(bench.samples)
    if not plan.choices or not effort.generations or not may_gain(space, plan.choices, goal.objective):
        return plan
    measured = bench.noise(plan, samples)
    if not disagree(space.predicted_loss(space.complete(plan.choices)), measured):
        return plan
    noise = noise_on(bench, plan.ranges)
    found = evolve(space, plan.choices, noise, replace(goal, enough=measured), stages_for(samples), effort, each)
    return plan_of(found.choices, plan.ranges) if found.improved else plan


def may_gain(space: Space, choices: Choices, objective: Objective) -> bool:
    """Whether the cheapest options of all sites, crossings for nothing, would be worth looking for."""
    least = sum(min(o.bytes if objective == "size" else o.ms for o in options) for options in space.options.values())
    return least < (1.0 - WORTH_A_SEARCH) * Ledger(space, choices).totals.cost(objective)


def evolve(
    space: Space, start: Choices, noise: Noise, goal: Goal, stages: Sequence[Stage], effort: Effort,
    each: Callable[[], None] = lambda: None,
) -> Evolved:  # fmt: skip
    """The best plan by `goal` that so much effort finds; the same for the same seed and the same noise.

    noise: (choices of all sites, samples) -> noise on the first so many;  stages: the last one is on all samples
    each: called after every generation
    """
    parent = first = Ledger(space, start)
    every = stages[-1].samples
    search = _Evolution(space, noise, _with_room(goal, parent.totals), stages, effort)
    idle = generation = 0
    while generation < effort.generations and idle < effort.patience:
        generation += 1
        best = search.best_of(search.offspring(parent))
        if best is not None and search.rank(every, best) < search.rank(every, parent):
            best.recount()
            parent, idle = best, 0
        else:
            idle += 1
        each()
    return Evolved(
        parent.choices,
        search.noise_of(parent, every),
        parent.totals,
        search.noise_of(first, every),
        first.totals,
        generation,
        len(search.known),
    )


def _with_room(goal: Goal, start: Totals) -> Goal:
    """The goal with limits that the start holds."""
    return replace(goal, limits=Limits(max(goal.limits.ms, start.ms), max(goal.limits.bytes, start.bytes)))


class _Evolution:
    """Offspring and their selection. known: noise by (choices, samples)."""

    def __init__(self, space: Space, noise: Noise, goal: Goal, stages: Sequence[Stage], effort: Effort) -> None:
        self.space, self.noise, self.goal, self.stages, self.effort = space, noise, goal, stages, effort
        self.rng = np.random.default_rng(effort.seed)
        self.known: dict[tuple[tuple[Choice, ...], int], float] = {}
        self.seen: set[tuple[Choice, ...]] = set()
        self.moves = [(site, o) for site, options in space.options.items() if len(options) > 1 for o in options]

    def noise_of(self, ledger: Ledger, samples: int) -> float:
        key = (_genome(ledger), samples)
        if key not in self.known:
            self.known[key] = self.noise(ledger.choices, samples)
        return self.known[key]

    def rank(self, samples: int, ledger: Ledger) -> tuple[float, float]:
        return self.goal.rank(self.noise_of(ledger, samples), ledger.totals)

    def best_of(self, offspring: list[Ledger]) -> Ledger | None:
        """The last survivor of all stages."""
        for stage in self.stages:
            offspring = sorted(offspring, key=partial(self.rank, stage.samples))[: stage.survivors]
        return offspring[0] if offspring else None

    def offspring(self, parent: Ledger) -> list[Ledger]:
        """Mutants that were not there before, as many as asked for or as are found."""
        self.seen.add(_genome(parent))
        cap = self._cap(parent)
        children = []
        for _ in range(self.effort.offspring * ATTEMPTS if self.moves else 0):
            child = parent.fork()
            switches = 1 + min(self.rng.integers(self.effort.switches, size=2))  # few are likelier than many
            for _ in range(int(switches)):
                self._switch(child, cap)
            if _genome(child) not in self.seen and self._allowed(child.totals, cap):
                self.seen.add(_genome(child))
                children.append(child)
            if len(children) == self.effort.offspring:
                break
        return children

    def _cap(self, parent: Ledger) -> float:
        """Quiet enough already: only cheaper plans can win."""
        quiet = self.noise_of(parent, self.stages[-1].samples) <= self.goal.enough
        return min(self.goal.most_cost, parent.totals.cost(self.goal.objective)) if quiet else self.goal.most_cost

    def _allowed(self, totals: Totals, cap: float) -> bool:
        within = totals.cost(self.goal.objective) <= cap + ROUNDING * abs(cap) if cap < inf else True
        return within and totals.overshoot(self.goal.limits) <= ROUNDING

    def _switch(self, child: Ledger, cap: float) -> None:
        """One change, and another that pays for it where it is too dear, or spends what it saved."""
        change = self._change(child)
        child.apply(change)
        too_dear = not self._allowed(child.totals, cap)
        if too_dear or self.rng.random() < 0.5:
            partner = self._partner(child, cap, frozenset(change), too_dear)
            if partner is not None:
                child.apply(partner)

    def _change(self, child: Ledger) -> Move:
        """Another option at one site, at times at all sites it shares a value with, where they have the choice."""
        site, option = self._drawn()
        while option is child.picked[site]:
            site, option = self._drawn()
        sites = child.neighbours(site) if self.rng.random() < TOGETHER else {site: None}
        offered = {each: [o for o in self.space.options[each] if o.choice == option.choice] for each in sites}
        return {each: options[0] for each, options in offered.items() if options}

    def _partner(self, child: Ledger, cap: float, taken: frozenset[Site], cheaper: bool) -> Move | None:
        """A change elsewhere that keeps the child allowed; for too dear a child one that makes it cheaper."""
        best: tuple[float, Move] | None = None
        found = 0
        for _ in range(PARTNERS * ATTEMPTS):
            site, option = self._drawn()
            if site in taken or option is child.picked[site]:
                continue
            after = child.after({site: option})
            if not self._allowed(after, cap) or (not cheaper and after.loss >= child.totals.loss):
                continue
            found += 1
            if best is None or after.loss < best[0]:
                best = (after.loss, {site: option})
            if found == PARTNERS:
                break
        return best[1] if best else None

    def _drawn(self) -> tuple[Site, Option]:
        return self.moves[int(self.rng.integers(len(self.moves)))]


def _genome(ledger: Ledger) -> tuple[Choice, ...]:
    return tuple(option.choice for option in ledger.picked.values())
