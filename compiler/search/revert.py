"""Choices that are taken back: the worst of a plan, until a budget holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lwc.compiler.core.plan import Choice, Plan, Site
from lwc.compiler.search.ledger import Objective, Totals
from lwc.compiler.search.space import Option, Space, plan_of


@dataclass(frozen=True)
class Revert:
    """A choice that was taken back, and why."""

    site: Site
    choice: Choice
    reason: str


def revert_until(
    plan: Plan, space: Space, holds: Callable[[Plan], bool], reason: str, objective: Objective = "latency"
) -> tuple[Plan, list[Revert]]:
    """Take back the worst sites, one, then two, four ... until the budget holds; ends at the float model.

    A site goes to its cheapest choice that loses less than half as much, in the end to its first option.
    """
    reverted: list[Revert] = []
    step = 1
    while (changed := _changed(plan, space)) and not holds(plan):
        worst = sorted(changed, key=lambda site: (-space.option(site, plan.choices[site]).loss, site))[:step]
        reverted.extend(Revert(site, plan.choices[site], reason) for site in worst)
        safer = {site: _safer(space.options[site], plan.choices[site], objective) for site in worst}
        plan = plan_of({**plan.choices, **safer}, plan.ranges)
        step *= 2
    return plan, reverted


def _changed(plan: Plan, space: Space) -> list[Site]:
    """Sites that do not have their first option."""
    return [site for site, choice in plan.choices.items() if choice != space.options[site][0].choice]


def _safer(options: Sequence[Option], choice: Choice, objective: Objective) -> Choice:
    """The cheapest choice that loses less than half as much and costs less than float; else float."""

    def cost(option: Option) -> float:
        return Totals(option.ms, option.bytes, option.loss).cost(objective)

    floating, now = options[0], next(option for option in options if option.choice == choice)
    found = [o for o in options[1:] if o.loss < now.loss / 2 and cost(o) < cost(floating)]
    return min(found, key=cost, default=floating).choice
