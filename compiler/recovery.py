"""--recover: the cleaned model is pruned further than its accuracy allows, then taught what it answered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.benches import around
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, class_outputs
from lwc.compiler.recover.api import Recovery, recover
from lwc.compiler.refitting import given_way
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.masking import masks_everywhere
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pruning import Pruner

SHARES = (0.3, 0.5, 0.7)  # of the channels that stay: the boldest is tried first
SHARE_OF_A_TRY = 0.5  # of the time that is left, unless it is the last try


@dataclass(frozen=True)
class Taught:
    """A workplace whose cleaned model was pruned and taught.

    had: the sparse choices that the model has already;  note: what came of it
    """

    prepared: Prepared
    had: Plan
    note: str


def taught(
    prepared: Prepared, bench: Workbench, numbers: Numbers, judge: Judge, options: CompileOptions, timings: Timings
) -> Taught | None:
    """The boldest of the sparse plans that holds the budget once it was taught; None where none does.

    A sparsity that was asked for is taught for all of the time, and taken as it comes.
    """
    plans = sparse_plans(bench, numbers, options)
    left = options.recover_minutes
    for number, plan in enumerate(plans):
        minutes = left if number == len(plans) - 1 else SHARE_OF_A_TRY * left
        with timings.stage("recover", "Recovering"):
            found = taught_model(prepared, plan, minutes, options, timings)
        left -= found.seconds / 60
        if options.sparse.asked or judge.holds(prepared.backend.session(found.model, prepared.target)):
            return Taught(around(prepared, found.model), plan, found.note)
        timings.progress.note(f"{found.note} That does not hold the budget.")
    return None


def sparse_plans(bench: Workbench, numbers: Numbers, options: CompileOptions) -> Sequence[Plan]:
    """What is tried, in this order; nothing where the model has no channels that can leave."""
    asked = options.sparse
    if asked.pattern:
        return [Plan(masks_everywhere(numbers, asked.pattern))]
    shares = [1.0 - asked.ratio] if asked.asked else SHARES
    pruner = Pruner(bench, numbers)
    plans = [Plan(pruner.at_share(share)) for share in shares]
    return [plan for plan in plans if plan.choices]


def taught_model(
    prepared: Prepared, sparse: Plan, minutes: float, options: CompileOptions, timings: Timings
) -> Recovery:
    """The cleaned model with the sparse choices, taught by what it was."""
    teacher = prepared.clean
    removed = {site: choice.removed for site, choice in sparse.sites(Pruned)}
    return recover(
        given_way(prepared, sparse, timings),
        teacher,
        prepared.search,
        minutes,
        scores=class_outputs(teacher, prepared.originals["search"][0]),
        keep=find_channels(teacher.ir).keep(removed),
        seed=options.seed,
        progress=timings.progress,
        cache=prepared.cache,
    )
