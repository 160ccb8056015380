"""Find the fastest plan that holds the budget: a frontier by integer programs, then flips measured on the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lwc.compiler.core.plan import Choice, Plan, Range, Site
from lwc.compiler.search.deepen import Deepening
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.evolve import Effort, Goal, refine
from lwc.compiler.search.greedy import boldest, path
from lwc.compiler.search.ledger import Ledger, Limits
from lwc.compiler.search.pruning import compared_on
from lwc.compiler.search.revert import Revert
from lwc.compiler.search.solve import Objective, solve
from lwc.compiler.search.space import SPARSE, Space, crossing_ms, plan_of

log = logging.getLogger(__name__)

FRONTIER = 2.0**-12  # of the loss that fails: the tightest loss budget that is looked for
BISECTIONS = 7  # after which budgets are known within 7 %
MOST_NOISE = 0.05  # relative squared error of the outputs, 13 dB
RUINED = 2.0  # summed loss beyond which outputs are noise: the frontier starts below
NO_DOUBT = 0.5  # profiles are trusted without the clock where one format takes less than this share of the other
CLEARLY_FASTER = 0.985  # a flip must win by more than the noise of the clock


@dataclass(frozen=True)
class Found:
    """The plan and what was taken back on the way."""

    plan: Plan
    reverted: tuple[Revert, ...] = ()


@dataclass
class Finder:
    """One search. Accuracy is judged on the search samples; the held-out ones stay unseen.

    max_drop: the metric may fall by so much below the float model's
    classes: sites grouped by what they are (depthwise Conv, MatMul, ...), flipped together on the clock
    limits: hard budgets of the sites together;  effort: of evolution, where losses do not add up; None: none
    known: plans from which sparse choices are taken further, too, the first of which holds the budget
    steps: measurements for that
    sharing: sites that read one weight and offer the same choices
    """

    space: Space
    ranges: Mapping[str, Range]
    bench: Workbench
    max_drop: float
    classes: Mapping[str, Sequence[Site]]
    objective: Objective = "latency"
    each: Callable[[], None] = lambda: None
    limits: Limits = field(default_factory=Limits)
    effort: Effort | None = None
    sharing: Sequence[tuple[Site, ...]] = ()
    known: Sequence[Plan] = ()
    steps: int = 0
    reverted: list[Revert] = field(default_factory=list)

    def find(self) -> Found:
        """The best plan; all in float when nothing else pays."""
        plan = self._deepened(self._evolved(self._extended(self._fastest_within_budget())))
        if self.objective == "size":
            plan = self._join(plan)
        else:
            plan = self._flip_classes(plan)
            plan = self._try_uniform(plan)
            plan = self._only_if_faster(plan)
        return Found(plan, tuple(self.reverted))

    def holds(self, plan: Plan) -> bool:
        """Whether the metric on the search samples stays within the budget.

        So few samples that one of them outweighs the budget cannot resolve it (16 right answers of 16 still allow
        a drop of 0.17 with 95 % confidence): then the outputs themselves must not carry more than 5 % noise.
        """
        resolved = len(self.bench.samples) * self.max_drop >= 1
        if not (resolved or self.bench.is_quiet(plan, MOST_NOISE)):
            return False
        return self.bench.value(self._float()) - self.bench.value(plan) <= self.max_drop

    def _float(self) -> Plan:
        return Plan({}, {})

    def _start(self) -> Plan:
        """The plan that needs no search."""
        return self._tidy(self.space.start)

    def _plan(self, loss_budget: float) -> Plan:
        return self._tidy(solve(self.space, loss_budget, self.objective, self.limits))

    def _tidy(self, choices: Mapping[Site, Choice]) -> Plan:
        return plan_of(choices, self.ranges)

    def _fastest_within_budget(self) -> Plan:
        """Loosest loss budget whose plan holds end to end, by bisection of its logarithm."""
        boldest = self._plan(float("inf"))
        plan = self._start()
        if boldest == plan or self.holds(boldest):
            return boldest
        failing = min(self.space.predicted_loss(self.space.complete(boldest.choices)), RUINED)
        holding = failing * FRONTIER
        for _ in range(BISECTIONS):
            budget = (holding * failing) ** 0.5
            candidate = self._plan(budget)
            log.debug("loss budget %.2g: %d sites changed", budget, len(candidate.choices))
            self.each()
            if candidate == plan or self.holds(candidate):
                plan, holding = candidate, budget
            else:
                failing = budget
        return plan

    def _extended(self, plan: Plan) -> Plan:
        """Greedy moves beyond the program's plan, as many as hold: plans lie between the budgets it was tried with."""
        plans = path(self.space, plan.choices, self.objective, self.limits)
        return self._tidy(boldest(plans, lambda choices: self.holds(self._tidy(choices)))) if len(plans) > 1 else plan

    def _evolved(self, plan: Plan) -> Plan:
        """A cheaper plan of the same measured noise, where the sum of losses predicts that badly."""
        if self.effort is None:
            return plan
        better = refine(self.bench, self.space, plan, Goal(self.objective, limits=self.limits), self.effort, self.each)
        return better if better is plan or self.holds(better) else plan

    def _deepened(self, plan: Plan) -> Plan:
        """The plan with sparse choices taken further, or a known one, whichever comes to be faster.

        Of the known ones the first, and the cheapest that holds.
        """
        if not self.steps or not any(site.kind in SPARSE for site in self.space.options):
            return plan
        boldest = next((each for each in sorted(self.known[1:], key=self._cost) if self.holds(each)), None)
        starts = [each for each in (plan, *self.known[:1], boldest) if each is not None]
        plans = [self._deepening().run(start) for start in {each.digest(): each for each in starts}.values()]
        return min(plans, key=self._cost) if self.objective == "size" else self._fastest(plans)

    def hastened(self, plan: Plan, fast: Callable[[Plan], bool]) -> Plan:
        """The plan with sparse choices taken further until it is fast, or none holds any more."""
        return plan if fast(plan) else replace(self._deepening(), enough=fast).run(plan)

    def beyond(self, plan: Plan) -> list[Plan]:
        """Sparse choices taken further, one more in each plan, until outputs are noise."""
        taken: list[Plan] = []

        def taking(candidate: Plan) -> bool:
            taken.append(candidate)
            return True

        deepening = self._deepening()
        replace(deepening, holds=taking, enough=lambda each: deepening.noise(each) > RUINED).run(plan)
        return taken

    def _deepening(self) -> Deepening:
        count = compared_on(len(self.bench.samples))
        return Deepening(
            self.space, self.holds, lambda each: self.bench.noise(each, count), self.steps, self.objective,
            self.limits, self.each,
        )  # fmt: skip

    def _cost(self, plan: Plan) -> float:
        return Ledger(self.space, plan.choices).totals.cost(self.objective)

    def _fastest(self, plans: Sequence[Plan]) -> Plan:
        """On the clock; of two the first unless the other clearly wins."""
        best = plans[0]
        for plan in plans[1:]:
            if self.bench.ratio(plan, best) < CLEARLY_FASTER:
                best = plan
        return best

    def _join(self, plan: Plan) -> Plan:
        """Sites that share a weight in one format, where that is smaller and holds: two formats store it twice."""
        size = self.bench.weight_bytes(plan) if self.sharing else 0
        for sites in self.sharing:
            kinds = {plan.choices[site] for site in sites if site in plan.choices}
            common = [o for o in self.space.options[sites[0]] if o.choice in kinds]
            for option in sorted(common, key=lambda option: option.bytes):
                candidate = self._tidy({**plan.choices, **dict.fromkeys(sites, option.choice)})
                self.each()
                joined = self.bench.weight_bytes(candidate)
                if joined < size and self.holds(candidate):
                    plan, size = candidate, joined
                    break
        return plan

    def _flip_classes(self, plan: Plan) -> Plan:
        """Take a class of sites out of the plan, or in, where the clock says it is faster and the budget holds."""
        for name, sites in self.classes.items():
            for candidate, verb in self._flips(plan, sites):
                if candidate.digest() == plan.digest():
                    continue
                log.debug("%s %s", verb, name)
                self.each()
                if self._wins(candidate, plan):
                    self._note_reverts(plan, candidate, f"{name} is faster in float here")
                    plan = candidate
                    break
        return plan

    def _wins(self, candidate: Plan, plan: Plan) -> bool:
        """Whether it is faster on the clock and holds the budgets; a bolder one is asked for accuracy first."""
        if self._over(candidate) > self._over(plan):
            return False
        bolder = len(candidate.choices) > len(plan.choices)
        if bolder and not self.holds(candidate):
            return False
        return self.bench.ratio(candidate, plan) < CLEARLY_FASTER and self.holds(candidate)

    def _flips(self, plan: Plan, sites: Sequence[Site]) -> list[tuple[Plan, str]]:
        chosen = [site for site in sites if site in plan.choices]
        flips = []
        if chosen and self._matter(plan, chosen) and not self._clearly_pays(plan, chosen):
            rest = {site: choice for site, choice in plan.choices.items() if site not in chosen}
            flips.append((self._tidy(rest), "without"))
        absent = {site: self._fastest_format(site) for site in sites if site not in plan.choices}
        if absent and self._matter(plan, list(absent)) and not self._clearly_costs(absent):
            flips.append((self._tidy({**plan.choices, **absent}), "with"))
        return flips

    def _fastest_format(self, site: Site) -> Choice:
        return min(self.space.options[site][1:], key=lambda option: option.ms).choice

    def _matter(self, plan: Plan, sites: Sequence[Site]) -> bool:
        """Whether these sites and the crossings around them take half of what a flip must win, or more."""
        ledger = Ledger(self.space, plan.choices)
        crossings = {crossing.value: crossing for site in sites for crossing in ledger.touching[site]}
        ms = sum(ledger.picked[site].ms for site in sites)
        ms += sum(crossing_ms(crossing, ledger.picked) for crossing in crossings.values())
        return ms >= NO_DOUBT * (1.0 - CLEARLY_FASTER) * ledger.totals.ms

    def _clearly_pays(self, plan: Plan, sites: Sequence[Site]) -> bool:
        """Whether the profile leaves no doubt about the chosen format of these sites: half of float's time or less."""
        chosen = sum(self.space.option(site, plan.choices[site]).ms for site in sites)
        return chosen < NO_DOUBT * sum(self.space.options[site][0].ms for site in sites)

    def _clearly_costs(self, choices: Mapping[Site, Choice]) -> bool:
        floating = sum(self.space.options[site][0].ms for site in choices)
        return NO_DOUBT * sum(self.space.option(site, choice).ms for site, choice in choices.items()) > floating

    def _try_uniform(self, plan: Plan) -> Plan:
        """Every site in one format: the plan that fusion favours most, which sums of single profiles can price out.

        Where it takes the same time, the plan that predicts less loss is better.
        """
        sparse = {site: choice for site, choice in plan.choices.items() if site.kind in SPARSE}
        for choice, sites in sorted(self.space.formats().items(), key=lambda item: str(item[0])):
            everywhere = {**dict.fromkeys(sites, choice), **sparse}
            if NO_DOUBT * self._sites_ms(everywhere) > self._sites_ms(plan.choices):
                continue
            uniform = self._tidy(everywhere)
            self.each()
            if self._wins(uniform, plan) or self._ties(uniform, plan):
                self._note_reverts(plan, uniform, f"all of the model in {choice} is as fast here")
                plan = uniform
        return plan

    def _ties(self, candidate: Plan, plan: Plan) -> bool:
        """Whether it is no slower on the clock, is predicted to lose less, and holds the budgets."""
        losses = [self.space.predicted_loss(self.space.complete(each.choices)) for each in (candidate, plan)]
        quieter = losses[0] < losses[1] and self._over(candidate) <= self._over(plan)
        return quieter and self.bench.ratio(candidate, plan) <= 1.0 and self.holds(candidate)

    def _sites_ms(self, choices: Mapping[Site, Choice]) -> float:
        """Profiled time of all sites without crossings: right for uniform plans, which were profiled as a whole."""
        complete = self.space.complete(choices)
        return sum(self.space.option(site, choice).ms for site, choice in complete.items())

    def _only_if_faster(self, plan: Plan) -> Plan:
        floats = self._start()
        if self._over(floats) <= self._over(plan) and self.bench.ratio(plan, floats) > CLEARLY_FASTER:
            self._note_reverts(plan, floats, "the whole model is faster in float here")
            return floats
        return plan

    def _over(self, plan: Plan) -> float:
        """By how much the plan is over the hard limits."""
        return Ledger(self.space, plan.choices).totals.overshoot(self.limits)

    def _note_reverts(self, before: Plan, after: Plan, reason: str) -> None:
        self.reverted.extend(
            Revert(site, choice, reason) for site, choice in before.choices.items() if site not in after.choices
        )
