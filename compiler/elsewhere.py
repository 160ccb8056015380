"""Plans for a runtime that is timed as a whole, from what was measured of sites on the reference runtime."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from lwc.compiler.core.plan import Choice, Plan, Site, StaticInt8, WeightOnly
from lwc.compiler.search.decide import PRODUCTS
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.revert import Revert
from lwc.compiler.search.space import Option, Space, plan_of

AUTO = "auto"


def boldest(space: Space, executed: Collection[str], precision: str, numbers: Numbers, *, decided: bool) -> Plan:
    """The format that is asked for wherever it is offered; where none is, int8 if nothing was decided by time.

    executed: names of the choices that the runtime has
    """
    wanted = precision if precision != AUTO else "" if decided else StaticInt8.name
    choices = {
        site: option.choice
        for site, found in space.options.items()
        for option in found
        if option.choice.name == wanted and wanted in executed and _may_pay(site, option.choice)
    }
    return plan_of(choices, numbers.ranges)


def _may_pay(site: Site, choice: Choice) -> bool:
    """Integer weights alone make products faster."""
    return not isinstance(choice, WeightOnly) or site.op in PRODUCTS


def untimed(offered: Mapping[Site, tuple[Choice, ...]], known: Space, executed: Collection[str]) -> Space:
    """What is offered, in the form and with the losses that are known of it; milliseconds are not."""
    return Space({site: tuple(_options(site, choices, known, executed)) for site, choices in offered.items()})


def _options(
    site: Site, choices: Iterable[Choice], known: Space, executed: Collection[str]
) -> Iterable[Option]:
    found = [option for option in known.options.get(site, ()) if option.choice.name in executed]
    names = {option.choice.name for option in found}
    yield from (replace(option, ms=math.nan) for option in found)
    yield from (Option(choice, math.nan, 0, math.nan) for choice in choices if choice.name not in names)


def located(reverted: Iterable[Revert], runtime: str) -> list[Revert]:
    """The same, their reasons saying where that was found."""
    return [replace(revert, reason=f"on {runtime}: {revert.reason}") for revert in reverted]
