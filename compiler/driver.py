"""The whole story of `lwc compile` on one screen: prepare, decide, tune, prove, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lwc.compiler.assemble import assemble_report, write_artifact
from lwc.compiler.benches import numbers_of
from lwc.compiler.core.artifact import Artifact, check_destination, replacing
from lwc.compiler.core.errors import BudgetNotHeld
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Skip
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.report import Accuracy, LatencyPair
from lwc.compiler.decision import decide_for_all, rescaled, search_space
from lwc.compiler.front import write_front
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, prepare, runtimes
from lwc.compiler.prove import (
    LEAST_SPEEDUP_OF_CLEAN,
    LEAST_SPEEDUP_OF_PLAN,
    Candidate,
    Proof,
    input_candidate,
    prove,
)
from lwc.compiler.recover.api import refuse_recovery
from lwc.compiler.search.decide import MEASURED
from lwc.compiler.search.revert import Revert
from lwc.compiler.settle import Decision
from lwc.compiler.tuning import refuse_tuning, tune


def compile_model(model: Model, options: CompileOptions, progress: Progress | None = None) -> Artifact:
    """Compile `model` into the artifact folder the options name.

    Raises BadInput, UsageError, MissingDependency; BudgetNotHeld when nothing found holds the budgets.
    """
    out = options.destination(model.source)
    check_destination(out)
    refuse_tuning(options)
    timings = Timings(progress or Silent())
    prepared = prepare(model, options, timings)
    if options.recover_minutes:
        refuse_recovery(prepared.clean)
    judge = Judge(prepared, options.max_drop, options.seed)
    place = rescaled(prepared, options, timings)
    numbers = numbers_of(place, options, timings)
    decisions, refused = decide_for_all(place, numbers, judge, options, timings)
    if options.limited and options.plan is None:
        decisions += decide_for_all(place, numbers, judge, other_way(options), timings)[0]
    with replacing(out) as folder:
        with timings.stage("build", "Building the candidates"):
            only_plan = options.plan is not None or options.sparse.asked
            candidates, skipped = candidates_of(prepared, decisions, only_plan=only_plan)
        tune(candidates, options, timings)
        with timings.stage("verify", "Measuring against the original"):
            proof = prove(prepared, judge, candidates, folder, options)
            check_budgets(proof, options)
        chosen = deciding(decisions, proof)
        proof = noted(proof, chosen)
        reverted = (*chosen.reverted, *lost_choices(decisions, proof))
        front = write_front(chosen, numbers, judge, folder, options, timings) if options.pareto else ()
        report = assemble_report(prepared, chosen.shown, reverted, skipped, refused, proof, options, timings, front)
        write_artifact(folder, proof, report)
    return Artifact.open(out, check=False)


def other_way(options: CompileOptions) -> CompileOptions:
    """The same for a small model instead of a fast one, or the reverse: hard budgets may need what these offer."""
    return replace(options, objective="latency" if options.objective == "size" else "size")


@dataclass(frozen=True)
class AnalysisLine:
    """One choice at one site: what it costs (ms, bytes) and loses (relative squared error of the outputs)."""

    site: str
    op: str
    choice: str
    ms: float
    bytes: int
    loss: float


def analyze_model(
    model: Model, options: CompileOptions, progress: Progress | None = None, method: str = MEASURED
) -> list[AnalysisLine]:
    """What each choice would cost and lose at each site. Raises what compile_model raises.

    method: how losses are found, 'measured' or a name in search.cheap.METHODS
    """
    timings = Timings(progress or Silent())
    prepared = prepare(model, options, timings)
    place = prepared.on(runtimes(options)[0])
    space = search_space(place, numbers_of(prepared, options, timings), options, timings, method).space
    return [
        AnalysisLine(site.name, site.op, option.choice.name, option.ms, option.bytes, option.loss)
        for site, found in space.options.items()
        for option in found
    ]


def candidates_of(
    prepared: Prepared, decisions: Sequence[Decision], *, only_plan: bool
) -> tuple[list[Candidate], tuple[Skip, ...]]:
    """Plans first, then the cleaned model, on every runtime; the input model stays behind them all.

    only_plan: what the user asked for, a plan or a sparsity, stands alone. Models for a foreign target are kept
    whatever their speed here, but for those of the runtime that the input model has anyway.
    """
    plans: list[Candidate] = []
    cleaned: dict[str, Candidate] = {}
    skips: dict[Skip, None] = {}
    for decision in decisions:
        place = decision.prepared
        planned, skipped = place.apply.with_skips(place.clean, decision.plan)
        skips.update(dict.fromkeys((*place.skipped, *skipped)))
        behind_all = place.backend.name == place.reference.name
        any_speed = place.target.is_foreign and not behind_all
        least = 0.0 if only_plan or any_speed else LEAST_SPEEDUP_OF_PLAN
        whole = decision.whole
        known = any((each.plan, each.backend.name) == (whole, place.backend.name) for each in plans)
        if only_plan or (whole.choices and not known):
            plans.append(Candidate("plan", planned, whole, least, place.backend, place.target, place.shapes))
        bare = place.apply(prepared.clean, Plan())
        least = 0.0 if any_speed else LEAST_SPEEDUP_OF_CLEAN if behind_all else LEAST_SPEEDUP_OF_PLAN
        cleaned[place.backend.name] = Candidate(
            "cleaned model", bare, Plan(), least, place.backend, place.target, place.shapes
        )
    if only_plan:
        return plans, tuple(skips)
    return [*plans, *cleaned.values(), input_candidate(decisions[0].prepared)], tuple(skips)


def deciding(decisions: Sequence[Decision], proof: Proof) -> Decision:
    """The decision that the kept candidate came from; the first of its runtime, or of all, when it is no plan."""
    of_runtime = [d for d in decisions if d.prepared.backend.name == proof.kept.backend.name] or decisions
    return next((d for d in of_runtime if d.whole == proof.kept.plan), of_runtime[0])


def noted(proof: Proof, decision: Decision) -> Proof:
    """The proof, saying of a kept plan what was done when its drop's interval straddled the budget."""
    if proof.kept.name != "plan" or not decision.done:
        return proof
    note = f"{proof.accuracy.note} {decision.done}".strip()
    return replace(proof, accuracy=replace(proof.accuracy, note=note))


def lost_choices(decisions: Sequence[Decision], proof: Proof) -> list[Revert]:
    """Choices of plans for the runtime kept that another candidate was kept for, where that has left them in float."""
    plans = [d.whole for d in decisions if d.prepared.backend.name == proof.kept.backend.name]
    lost = {plan.digest(): plan for plan in plans if plan.digest() != proof.kept.plan.digest()}
    return [
        Revert(site, choice, reason)
        for plan in lost.values()
        if (reason := why_lost(plan, proof))
        for site, choice in plan.choices.items()
        if site not in proof.kept.plan.choices
    ]


def why_lost(plan: Plan, proof: Proof) -> str:
    """What the proof found of a plan as a whole on the runtime kept; empty where it did not try it."""
    kept = proof.kept
    for each in proof.rejected:
        if (each.name, each.backend, each.plan) == ("plan", kept.backend.name, plan):
            return f"the whole plan: {each.reason}"
    times = {(each.name, each.backend.name, each.plan.digest()): ms for each, ms in proof.times}
    mine = times.get(("plan", kept.backend.name, plan.digest()))
    if mine is None:
        return ""
    other = times.get((kept.name, kept.backend.name, kept.plan.digest()), proof.latency.compiled.median_ms)
    return f"the whole plan takes {mine:.3f} ms, the {kept.name} {other:.3f} ms"


def check_budgets(proof: Proof, options: CompileOptions) -> None:
    """Raise BudgetNotHeld when the result breaks a budget and the best effort was not asked for."""
    broken = broken_budget(proof.accuracy, proof.latency, proof.compiled_bytes, options)
    if broken and not options.best_effort:
        raise BudgetNotHeld(broken, "Loosen the budget, or take the best found with --best-effort.")


def broken_budget(judged: Accuracy, latency: LatencyPair, size_bytes: float, options: CompileOptions) -> str:
    """The budget that the result does not hold, in one sentence; empty when it holds all."""
    if not judged.held:
        return f"The metric {judged.metric} falls by {judged.drop:.4g}; {options.max_drop:g} is allowed."
    return options.excess(latency.compiled.median_ms, size_bytes)
