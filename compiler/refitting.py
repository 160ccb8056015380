"""Channels beyond what the budget allows leave after all, where solving the layers in order makes up for it.

Behind the plan that search found lie bolder ones that lose too much. The boldest of them that holds the budget once
its layers were solved toward what they gave before (search.in_order) becomes a decision of its own, for the proof to
compare: the same number formats, on a cleaned model whose channels are gone and whose layers gave way.
"""

from __future__ import annotations

from dataclasses import replace

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.benches import around, numbers_of, workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Pruned
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings
from lwc.compiler.replay import collect_for
from lwc.compiler.search.decide import Decider
from lwc.compiler.search.in_order import refit_in_order
from lwc.compiler.search.space import SPARSE, Space
from lwc.compiler.settle import Decision
from lwc.passes.sparsity.compensate import IN_ORDER

TRIES = 5  # plans whose layers are solved


def refitted(
    decider: Decider, decided: Decision, judge: Judge, options: CompileOptions, timings: Timings
) -> list[Decision]:
    """The boldest of the plans behind a decision that holds once its layers were solved; none where none does.

    A sparsity that was asked for is solved as it is, whether it holds or not.
    """
    with timings.stage("search", "Solving layers in order"):
        if options.sparse.asked:
            if not any(decided.plan.sites(Pruned)):
                return []
            return [solved(decided.prepared, replace(decided.plan, scalings=()), decided, options, timings)]
        plans = decider.bolder(replace(decided.plan, scalings=()))
        best: list[Decision] = []
        low, high = 0, len(plans)  # plans before `low` hold, those from `high` on do not
        for _ in range(TRIES):
            if low >= high:
                break
            middle = (low + high) // 2 if best else (low + 3 * high) // 4
            tried = solved(decided.prepared, plans[middle], decided, options, timings)
            if _holds(tried, judge):
                best, low = [tried], middle + 1
            else:
                high = middle
        return best


def solved(place: Prepared, plan: Plan, decided: Decision, options: CompileOptions, timings: Timings) -> Decision:
    """The decision for this plan: its channels gone, the layers behind solved in order, its formats to be applied."""
    sparse = {site: in_order(choice) for site, choice in plan.choices.items() if site.kind in SPARSE}
    formats = replace(plan, choices={s: choice for s, choice in plan.choices.items() if s not in sparse})
    inside = around(place, given_way(place, Plan(sparse), timings))
    collect_for(formats, numbers_of(inside, options, timings))
    had = Plan(sparse, {}, place.scalings)
    ready = replace(formats, scalings=place.scalings)
    return replace(decided, prepared=inside, plan=ready, had=had, reverted=(), space=_named_anew(decided.space))


def in_order(choice: Choice) -> Choice:
    """The same choice, its layers to be solved in order when the plan is replayed."""
    return replace(choice, compensation=IN_ORDER) if isinstance(choice, Pruned) else choice


def _named_anew(space: Space) -> Space:
    """The same options, of channels to be solved in order."""
    options = {
        site: tuple(replace(option, choice=in_order(option.choice)) for option in found)
        for site, found in space.options.items()
    }
    return replace(space, options=options)


def given_way(place: Prepared, sparse: Plan, timings: Timings) -> Model:
    """The cleaned model with the sparse choices, its layers solved in order where channels left."""
    student = place.apply(place.clean, sparse)
    infer_shapes(student.ir)
    removed = {site: choice.removed for site, choice in sparse.sites(Pruned)}
    if not removed:
        return student  # zeros of masks stay
    return refit_in_order(
        student,
        place.clean,
        find_channels(place.clean.ir).keep(removed),
        place.search,
        lambda model, outputs: place.reference.session(model, place.target, outputs, lean=True),
        timings.progress.advance,
    )


def _holds(decision: Decision, judge: Judge) -> bool:
    bench = workbench(decision.prepared)
    plan = replace(decision.plan, scalings=())
    held = not bench.refusal(plan) and judge.holds(bench.session(plan))
    bench.close()
    return held
