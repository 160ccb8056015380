"""Sparse choices one step further at a time, each measured in the plan that it would join.

What pruned groups lose does not add up: channels that one group lost are what the next would have leaned on. So steps
are ordered by the noise they add to the plan as it is, per unit of what they save. Noise mostly grows from plan to
plan, so a step whose last known price is above another's fresh one need not be measured again: lazy greedy (Minoux
1978), some two or three measurements per step instead of one for each group.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lwc.compiler.core.plan import Choice, Plan, Site
from lwc.compiler.search.evolve import SESSION
from lwc.compiler.search.ledger import Ledger, Limits, Objective
from lwc.compiler.search.space import SPARSE, Option, Space, plan_of

log = logging.getLogger(__name__)

LEAST_GAIN = 1e-3  # of the cost: smaller steps are not worth their measurements
MULTIPLY_ADDS = 2e12  # of all the runs together: some 50 s on two cores
MOST_STEPS = 300
LEAST_NOISE = 1e-9  # steps that add less are ordered by what they save


def steps_for(macs: int, samples: int) -> int:
    """Measurements that the multiply-adds allow, the same on every machine.  macs: of one run of the model"""
    return min(MOST_STEPS, int(MULTIPLY_ADDS / (macs * max(1, samples) + SESSION)))


@dataclass
class Deepening:
    """holds: whether a plan keeps the budget;  noise: of a plan;  most: measurements

    each: called after every measurement;  enough: a plan after which no step is taken
    """

    space: Space
    holds: Callable[[Plan], bool]
    noise: Callable[[Plan], float]
    most: int
    objective: Objective = "latency"
    limits: Limits = field(default_factory=Limits)
    each: Callable[[], None] = lambda: None
    enough: Callable[[Plan], bool] = lambda plan: False

    def run(self, plan: Plan) -> Plan:
        """As many steps as hold. A step that does not hold is not tried again, nor are those behind it."""
        self._left, self._number = self.most, itertools.count()
        now, heap = self._measured(plan), [self._entry(plan, *step) for step in self._steps(plan)]
        heapq.heapify(heap)
        while heap and self._left > 0:
            _, _, site, option = heapq.heappop(heap)
            candidate = self._with(plan, site, option.choice)
            noise = self._measured(candidate)
            price = self._price(plan, site, option, noise - now)
            if heap and price > heap[0][0]:
                heapq.heappush(heap, (price, next(self._number), site, option))
                continue
            if self._over(candidate) > self._over(plan) or not self.holds(candidate):
                continue
            log.debug("%s further, noise %.3g", site.name, noise)
            plan, now = candidate, noise
            if self.enough(plan):
                break
            for step in self._steps(plan, site):
                heapq.heappush(heap, self._entry(plan, *step))
        return plan

    def _steps(self, plan: Plan, only: Site | None = None) -> Iterator[tuple[Site, Option]]:
        """The next option of each site that saves enough."""
        least = LEAST_GAIN * Ledger(self.space, plan.choices).totals.cost(self.objective)
        for site in self.space.options if only is None else (only,):
            if site.kind in SPARSE:
                options = self._behind(site, plan)
                found = next((o for o in options if self._saved(plan, site, o) >= least), None)
                if found is not None:
                    yield site, found

    def _behind(self, site: Site, plan: Plan) -> list[Option]:
        options = self.space.options[site]
        now = plan.choices.get(site, options[0].choice)
        at = next(k for k, option in enumerate(options) if option.choice == now)
        return list(options[at + 1 :])

    def _saved(self, plan: Plan, site: Site, option: Option) -> float:
        return -Ledger(self.space, plan.choices).change({site: option}).cost(self.objective)

    def _price(self, plan: Plan, site: Site, option: Option, noise: float) -> float:
        return max(noise, LEAST_NOISE) / max(self._saved(plan, site, option), LEAST_NOISE)

    def _entry(self, plan: Plan, site: Site, option: Option) -> tuple[float, int, Site, Option]:
        before = self.space.option(site, plan.choices.get(site, self.space.options[site][0].choice))
        return self._price(plan, site, option, option.loss - before.loss), next(self._number), site, option

    def _over(self, plan: Plan) -> float:
        return Ledger(self.space, plan.choices).totals.overshoot(self.limits)

    def _measured(self, plan: Plan) -> float:
        self._left -= 1
        self.each()
        return self.noise(plan)

    @staticmethod
    def _with(plan: Plan, site: Site, choice: Choice) -> Plan:
        choices: Mapping[Site, Choice] = {**plan.choices, site: choice}
        return plan_of(choices, plan.ranges)
