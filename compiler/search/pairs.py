"""Pairs of neighbours whose losses do not add up: one layer's error may undo, or be made worse by, the next one's.

    L(a, b) = L(a) + L(b) + h(a, b)

h is the term off the diagonal of the augmented Hessian (Schaefer et al. 2023), here measured: both changes at once,
on the whole model's outputs, minus what each does alone. Only pairs that exchange a value are looked at, those
with most to lose first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lwc.compiler.analysis.crossings import Flow
from lwc.compiler.core.plan import Choice, Float, Site
from lwc.compiler.search.job import Change
from lwc.compiler.search.space import Interaction

Losses = Mapping[tuple[Site, Choice], float]

WORTH_KNOWING = 0.1  # of the sum: less than this the sum predicts well enough
MOST_PAIRS = 24
SITES_PER_PAIR = 4  # so that pairs take a quarter of the time of single sites, or less


def most_pairs(sites: int) -> int:
    """How many pairs of so many sites are worth measuring."""
    return min(MOST_PAIRS, sites // SITES_PER_PAIR)


def neighbours(flows: Sequence[Flow]) -> list[tuple[Site, Site]]:
    """Sites with those that read what they make."""
    found: dict[tuple[Site, Site], None] = {}
    for flow in flows:
        if flow.producer is not None:
            found.update(((flow.producer, reader), None) for reader in flow.consumers if reader != flow.producer)
    return list(found)


def interactions(
    measure: Callable[[Sequence[Change]], Mapping[Change, float]],
    singles: Losses,
    pairs: Sequence[tuple[Site, Site]],
    chosen: Mapping[Site, Choice],
    most: int,
) -> tuple[Interaction, ...]:
    """h of the pairs where it is more than a tenth of the sum of both losses.

    measure: losses of changes;  singles: losses of each alone;  chosen: the choice that is looked at, by site
    most: so many pairs are measured, those of the largest sums
    """
    sums = {
        (a, b): singles[a, chosen[a]] + singles[b, chosen[b]]
        for a, b in pairs
        if _changes(chosen.get(a)) and _changes(chosen.get(b))
    }
    looked_at = sorted(sums, key=lambda pair: (-sums[pair], pair))[:most]
    changes: dict[tuple[Site, Site], Change] = {(a, b): ((a, chosen[a]), (b, chosen[b])) for a, b in looked_at}
    joint = measure(list(changes.values()))
    terms = {pair: joint[change] - sums[pair] for pair, change in changes.items()}
    found = [
        Interaction((a, chosen[a]), (b, chosen[b]), term)
        for (a, b), term in terms.items()
        if abs(term) > WORTH_KNOWING * sums[a, b] > 0.0
    ]
    return bounded(found, singles)


def bounded(found: Sequence[Interaction], singles: Losses) -> tuple[Interaction, ...]:
    """The same, with less taken off where a site would get back more than it loses alone.

    Each site bears a share of the term in proportion to its loss. Measured alone a pair never gets back more than it
    loses, but a site may be part of several pairs, whose terms are not independent.
    """
    returned: dict[tuple[Site, Choice], float] = {}
    for pair in found:
        share = -min(0.0, pair.loss) / (singles[pair.first] + singles[pair.second])
        for each in (pair.first, pair.second):
            returned[each] = returned.get(each, 0.0) + share
    return tuple(
        replace(pair, loss=pair.loss / max(1.0, returned[pair.first], returned[pair.second])) if pair.loss < 0 else pair
        for pair in found
    )


def _changes(choice: Choice | None) -> bool:
    return choice is not None and not isinstance(choice, Float)
