"""What pruned groups save, from profiles of whole models in which every group keeps about the same share.

The time that a node saves is shared evenly between the groups whose channels run through it: exact where they all
shrink alike, for a product that shrinks by r in each of two groups saves t (1 - r^2), and t (1 - r^2) / 2 is what one
of them saves while the other is at its middle. Profiles of two models are not side by side; so each is stretched to
what the clock says of the two models as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from lwc.compiler.analysis.sites import swallowed_by
from lwc.compiler.core.plan import Choice, Plan, Site
from lwc.compiler.search.cost import PROFILED_RUNS
from lwc.compiler.search.evaluate import Workbench

Savings = dict[tuple[Site, Choice], float]


def measured_savings(
    bench: Workbench,
    base: Plan,
    rungs: Sequence[Mapping[Site, Choice]],
    touched: Mapping[Site, frozenset[str]],
    each: Callable[[], None] = lambda: None,
) -> Savings:
    """Milliseconds that each choice takes off the base plan, the mean over the rungs that hold it.

    rungs: choices of all groups together;  touched: names of the nodes that a group's channels run through
    Choices of a rung that the runtime cannot run are left out.
    """
    owners = swallowed_by(bench.model)
    owned = {site: frozenset(owners.get(name, name) for name in names) for site, names in touched.items()}
    before = _by_owner(bench, base, owners)
    found: dict[tuple[Site, Choice], list[float]] = {}
    for rung in rungs:
        plan = Plan({**base.choices, **rung}, base.ranges, base.scalings)
        after = _by_owner(bench, plan, owners) if before is not None else None
        if before is not None and after is not None:
            stretch = bench.ratio(plan, base) * sum(before.values()) / (sum(after.values()) or 1.0)
            if math.isfinite(stretch):
                for site, saved in _shared(before, after, stretch, {site: owned[site] for site in rung}).items():
                    found.setdefault((site, rung[site]), []).append(saved)
        each()
    return {key: sum(saved) / len(saved) for key, saved in found.items()}


def _by_owner(bench: Workbench, plan: Plan, owners: Mapping[str, str]) -> dict[str, float] | None:
    """Milliseconds by node, of what a site's kernel swallows with the site's; None for a plan that cannot run."""
    times = bench.profile(plan, PROFILED_RUNS)
    if times is None:
        return None
    found: dict[str, float] = {}
    for name, ms in times.items():
        owner = owners.get(name, name)
        found[owner] = found.get(owner, 0.0) + ms
    return found


def _shared(
    before: Mapping[str, float], after: Mapping[str, float], stretch: float, touched: Mapping[Site, frozenset[str]]
) -> dict[Site, float]:
    """What each group saves of the nodes it touches."""
    groups: dict[str, list[Site]] = {}
    for site, nodes in touched.items():
        for name in nodes:
            groups.setdefault(name, []).append(site)
    saved = dict.fromkeys(touched, 0.0)
    for name, sites in groups.items():
        gain = before.get(name, 0.0) - stretch * after.get(name, 0.0)
        for site in sites:
            saved[site] += gain / len(sites)
    return saved
