"""What passes that change one layer at a time have in common: the plan's sites in turn, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from lwc.compiler.core.pass_ import Outcome, Skip
from lwc.compiler.core.plan import Choice, Site

C = TypeVar("C", bound=Choice)

NO_NODE = "the main graph has no node of this name"


def at_sites(choices: Iterable[tuple[Site, C]], change: Callable[[Site, C], str | None]) -> Outcome:
    """Change every site in turn.

    change: why the site stays as it is; empty when it was changed, None when an earlier run has changed it
    """
    reasons = [(site, change(site, choice)) for site, choice in choices]
    return Outcome(
        tuple(site for site, reason in reasons if reason == ""),
        tuple(Skip(site, reason) for site, reason in reasons if reason),
    )
