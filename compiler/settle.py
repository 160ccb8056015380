"""A plan is searched for one runtime, and its worst choices taken back where it fails on held-out samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lwc.compiler.core.plan import Plan
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings
from lwc.compiler.search.decide import Decider
from lwc.compiler.search.interval import prefer_safer
from lwc.compiler.search.ledger import Limits, limits_for
from lwc.compiler.search.revert import Revert, revert_until
from lwc.compiler.search.space import Space

LEEWAY = 0.97  # of a hard latency: another measurement will differ


@dataclass(frozen=True)
class Decision:
    """What was decided for one runtime: the plan, the space it was chosen from, what was taken back on the way.

    had: sparse choices that the workplace's model has already, from recovery
    done: about an interval of the drop that straddles the budget, and what came of recovery
    listed: what was offered where nothing was timed site by site, its milliseconds unknown
    """

    prepared: Prepared
    plan: Plan
    space: Space
    reverted: tuple[Revert, ...] = ()
    done: str = ""
    listed: Space = field(default_factory=lambda: Space({}))
    had: Plan = field(default_factory=Plan)

    @property
    def whole(self) -> Plan:
        """The plan with what the model has already: all that was done to the cleaned one."""
        return replace(self.plan, choices={**self.had.choices, **self.plan.choices}) if self.had.choices else self.plan

    @property
    def shown(self) -> Space:
        """What the report lists."""
        return self.space if self.space.options else self.listed


def searched(
    decider: Decider, place: Prepared, judge: Judge, options: CompileOptions, timings: Timings, *, hasten: bool = False
) -> Decision:
    """The plan of the decider's space, its worst sites reverted until it holds on the held-out samples.

    hasten: what leaves is no more than the hard latency takes
    Where nothing is offered there is nothing to search: the cleaned model is a candidate in any case.
    """
    if not decider.space.options:
        return Decision(place, Plan(scalings=place.scalings), decider.space)
    bench = decider.bench
    with timings.stage("search", f"Searching for {place.backend.name}"):
        if hasten and options.max_latency_ms is not None:
            found = decider.hasten(LEEWAY * options.max_latency_ms)
        else:
            found = decider.search(hard_limits(decider, options))
    with timings.stage("verify", "Verifying on held-out samples"):
        plan, reverted = revert_until(
            found.plan,
            decider.space,
            lambda plan: not bench.refusal(plan) and judge.holds(bench.session(plan)),
            f"the metric falls by more than {options.max_drop:g} on held-out samples",
            decider.wanted.objective,
        )
        ratio = _ratio_of_bytes(decider.space) if options.objective == "size" else bench.ratio
        settled = prefer_safer(
            plan, decider.space, lambda plan: judge.verdict(bench.session(plan)), ratio, decider.wanted.objective
        )
    reverted = [*found.reverted, *reverted, *settled.reverted]
    plan = replace(settled.plan, scalings=place.scalings)
    return Decision(place, plan, decider.space, tuple(reverted), settled.done)


def _ratio_of_bytes(space: Space) -> Callable[[Plan, Plan], float]:
    def ratio(one: Plan, other: Plan) -> float:
        sizes = [space.predicted_bytes(space.complete(plan.choices)) for plan in (one, other)]
        return sizes[0] / max(1, sizes[1])

    return ratio


def hard_limits(decider: Decider, options: CompileOptions) -> Limits:
    """What --max-latency and --max-size leave to the sites."""
    if options.max_latency_ms is None and options.max_size_mb is None:
        return Limits()
    bench = decider.bench
    float_ms = bench.milliseconds(Plan())
    size = None if options.max_size_mb is None else options.max_size_mb * 1e6
    return limits_for(decider.space, float_ms, bench.model.weight_bytes(), options.max_latency_ms, size)
