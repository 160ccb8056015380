"""Pairs of neighbours whose losses do not add up: one layer's error may undo, or be made worse by, the next one's.

    L(a, b) = L(a) + L(b) + h(a, b)

h is the term off the diagonal of the augmented Hessian (Schaefer et al. 2023), here measured: both changes at once,
on the whole model's outputs, minus what each does alone. Only pairs that exchange a value are looked at, those
with most to lose first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lwc.compiler.analysis.crossings import flows
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Float, Site
from lwc.compiler.core.target import Target
from lwc.compiler.search.job import Change
from lwc.passes.precision.followers import moves_codes

Losses = Mapping[tuple[Site, Choice], float]

WORTH_KNOWING = 0.1  # of the sum: less than this the sum predicts well enough


def neighbours(model: Model, sites: Sequence[Site], target: Target) -> list[tuple[Site, Site]]:
    """Sites with those that read what they make, operators that move values between them looked through."""
    found: dict[tuple[Site, Site], None] = {}
    for flow in flows(model.graph, sites, lambda node: moves_codes(node, target)):
        if flow.producer is not None:
            found.update(((flow.producer, reader), None) for reader in flow.consumers if reader != flow.producer)
    return list(found)


def pair_losses(
    measure: Callable[[Sequence[Change]], Mapping[Change, float]],
    singles: Losses,
    pairs: Sequence[tuple[Site, Site]],
    chosen: Mapping[Site, Choice],
    most: int,
) -> dict[tuple[Site, Site], float]:
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
    return {pair: term for pair, term in terms.items() if abs(term) > WORTH_KNOWING * sums[pair]}


def _changes(choice: Choice | None) -> bool:
    return choice is not None and not isinstance(choice, Float)
