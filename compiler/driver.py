"""The whole story of `lwc compile` on one screen: prepare, decide, prove, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwc.compiler.assemble import assemble_report, write_artifact
from lwc.compiler.core.artifact import Artifact, check_destination, replacing
from lwc.compiler.core.errors import BadPlan, BudgetNotHeld, UnsupportedOperator, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Skip
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.report import Accuracy, LatencyPair
from lwc.compiler.measure import latency
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, prepare, runtimes
from lwc.compiler.prove import (
    LEAST_SPEEDUP_OF_CLEAN,
    LEAST_SPEEDUP_OF_PLAN,
    Candidate,
    Judge,
    Proof,
    input_candidate,
    prove,
)
from lwc.compiler.search.decide import PRECISIONS, Decider, Wanted
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.find import Revert, revert_until
from lwc.compiler.search.ledger import Limits, limits_for
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pareto import weight_bytes_of
from lwc.compiler.search.rounding import gram_sources, needs_gram
from lwc.compiler.search.solve import Objective
from lwc.compiler.search.space import Space


@dataclass(frozen=True)
class Decision:
    """What was decided for one runtime: the plan, the space it was chosen from, what was taken back on the way."""

    prepared: Prepared
    plan: Plan
    space: Space
    reverted: tuple[Revert, ...] = ()


def compile_model(model: Model, options: CompileOptions, progress: Progress | None = None) -> Artifact:
    """Compile `model` into the artifact folder the options name.

    Raises BadInput, UsageError, MissingDependency; BudgetNotHeld when nothing found holds the budgets.
    """
    out = options.destination(model.source)
    check_destination(out)
    timings = Timings(progress or Silent())
    prepared = prepare(model, options, timings)
    judge = Judge(prepared, options.max_drop, options.seed)
    decisions, refused = decide_for_all(prepared, judge, options, timings)
    with replacing(out) as folder:
        with timings.stage("verify", "Measuring against the original"):
            candidates, skipped = candidates_of(decisions, only_plan=options.plan is not None)
            proof = prove(
                prepared, judge, candidates, folder, objective=options.objective, portable=options.portable
            )
            check_budgets(proof, options)
        chosen = deciding(decisions, proof)
        reverted = (*chosen.reverted, *rejected_choices(chosen, proof))
        report = assemble_report(prepared, chosen.space, reverted, skipped, refused, proof, options, timings)
        write_artifact(folder, proof, report)
    return Artifact.open(out, check=False)


def decide_for_all(
    prepared: Prepared, judge: Judge, options: CompileOptions, timings: Timings
) -> tuple[list[Decision], dict[str, str]]:
    """A decision for each runtime, and why a runtime has none. Raises UnsupportedOperator when none can run it."""
    decisions: list[Decision] = []
    refused: dict[str, str] = {}
    numbers = numbers_of(prepared, options, timings)
    places = [prepared.on(backend) for backend in runtimes(options)]
    refuse_precision(options.precision, places)
    for place in places:
        if options.plan is not None:
            decisions.append(Decision(place, replayed(options, numbers), Space({})))
            continue
        reasons = place.backend.supports(prepared.clean, place.target).refused
        if reasons:
            refused[place.backend.name] = "; ".join(f"'{name}': {reason}" for name, reason in reasons.items())
            continue
        decisions.append(decide(place, numbers, judge, options, timings))
    if not decisions:
        raise UnsupportedOperator(f"{prepared.clean.name} cannot run: {'; '.join(refused.values())}.")
    return decisions, refused


def refuse_precision(precision: str, places: Sequence[Prepared]) -> None:
    """Raise UsageError when no runtime executes any format that --precision leaves."""
    wanted = PRECISIONS[precision]
    executed = {name for place in places for name in place.target.choices}
    if wanted and not wanted & executed:
        names = " or ".join(place.backend.name for place in places)
        raise UsageError(
            f"{precision} is not executed by {names} on '{places[0].target.name}'.",
            f"What is: {', '.join(sorted(executed & PRECISIONS['auto']))}.",
        )


def decide(
    place: Prepared, numbers: Numbers, judge: Judge, options: CompileOptions, timings: Timings
) -> Decision:
    """Search a plan for one runtime, then revert its worst sites until it holds on the held-out samples."""
    decider = search_space(place, numbers, options, timings)
    bench = decider.bench
    with timings.stage("search", f"Searching for {place.backend.name}"):
        found = decider.search(hard_limits(decider, options))
    with timings.stage("verify", "Verifying on held-out samples"):
        plan, reverted = revert_until(
            found.plan,
            decider.space,
            lambda plan: judge.holds(bench.session(plan)),
            f"the metric falls by more than {options.max_drop:g} on held-out samples",
        )
    return Decision(place, plan, decider.space, (*found.reverted, *reverted))


def hard_limits(decider: Decider, options: CompileOptions) -> Limits:
    """What --max-latency and --max-size leave to the sites."""
    if options.max_latency_ms is None and options.max_size_mb is None:
        return Limits()
    bench = decider.bench
    (floating,) = latency([bench.session(Plan())], bench.feeds, seconds=1.0)
    size = None if options.max_size_mb is None else options.max_size_mb * 1e6
    return limits_for(decider.space, floating.median_ms, weight_bytes_of(bench.model), options.max_latency_ms, size)


@dataclass(frozen=True)
class AnalysisLine:
    """One choice at one site: what it costs (ms, bytes) and loses (relative squared error of the outputs)."""

    site: str
    op: str
    choice: str
    ms: float
    bytes: int
    loss: float


def analyze_model(model: Model, options: CompileOptions, progress: Progress | None = None) -> list[AnalysisLine]:
    """What each choice would cost and lose at each site. Raises what compile_model raises."""
    timings = Timings(progress or Silent())
    prepared = prepare(model, options, timings)
    place = prepared.on(runtimes(options)[0])
    space = search_space(place, numbers_of(prepared, options, timings), options, timings).space
    return [
        AnalysisLine(site.name, site.op, option.choice.name, option.ms, option.bytes, option.loss)
        for site, found in space.options.items()
        for option in found
    ]


def numbers_of(prepared: Prepared, options: CompileOptions, timings: Timings) -> Numbers:
    """Nothing known yet; to be measured on the reference runtime."""
    return Numbers(
        workbench(prepared),
        prepared.search,
        int(options.max_memory_gb * 1e9),
        timings.progress.advance,
        options.workers,
        options.scheduler,
    )


def search_space(place: Prepared, numbers: Numbers, options: CompileOptions, timings: Timings) -> Decider:
    """Sites, ranges, costs and losses: all that search and `lwc analyze` look at."""
    objective: Objective = options.objective  # type: ignore[assignment]
    wanted = Wanted(options.precision, objective, options.max_drop, options.seed)
    decider = Decider(workbench(place), numbers, wanted, timings.progress.advance)
    decider.find_sites()
    with timings.stage("calibrate", "Calibrating"):
        decider.calibrate()
    with timings.stage("cost", f"Measuring costs on {place.backend.name}"):
        decider.measure_costs()
    with timings.stage("sensitivity", "Measuring losses", decider.measurements()):
        decider.measure_losses()
    return decider


def workbench(prepared: Prepared) -> Workbench:
    """Where candidate plans of the cleaned model are built and measured."""
    return Workbench(
        prepared.clean,
        prepared.backend,
        prepared.target,
        prepared.metric,
        prepared.search,
        prepared.originals["search"].__getitem__,
        prepared.feeds,
        prepared.apply,
        prepared.cache,
        prepared.key,
    )


def replayed(options: CompileOptions, numbers: Numbers) -> Plan:
    """The user's plan, with the statistics collected that it takes to solve weights again."""
    model = numbers.bench.model
    plan = read_plan(options, model)
    nodes = {node.name or "": node for node in model.graph}
    numbers.collect_grams(gram_sources((s for s, choice in plan.choices.items() if needs_gram(choice)), nodes))
    return plan


def read_plan(options: CompileOptions, clean: Model) -> Plan:
    """The user's plan. Raises BadPlan when it names nodes this model does not have."""
    assert options.plan is not None
    try:
        plan = Plan.from_json(options.plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"The plan '{options.plan}' cannot be read ({error}).") from error
    names = {node.name for node in clean.graph}
    for site in plan.choices:
        if site.name not in names:
            raise BadPlan(
                f"The plan '{options.plan}' names '{site.name}', which {clean.name} does not have.",
                "Use a plan that was made for this model.",
            )
    return plan


def candidates_of(
    decisions: Sequence[Decision], *, only_plan: bool
) -> tuple[list[Candidate], tuple[Skip, ...]]:
    """Plans first, then the cleaned model, on every runtime; the input model stays behind them all.

    A plan that the user gave stands alone.
    """
    plans: list[Candidate] = []
    cleaned: list[Candidate] = []
    skips: dict[Skip, None] = {}
    for decision in decisions:
        place = decision.prepared
        planned, skipped = place.apply.with_skips(place.clean, decision.plan)
        skips.update(dict.fromkeys((*place.skipped, *skipped)))
        least = 0.0 if only_plan else LEAST_SPEEDUP_OF_PLAN
        if decision.plan.choices or only_plan:
            plans.append(Candidate("plan", planned, decision.plan, least, place.backend, place.target))
        bare = place.apply(place.clean, Plan())
        least = LEAST_SPEEDUP_OF_CLEAN if place.backend.name == place.reference.name else LEAST_SPEEDUP_OF_PLAN
        cleaned.append(Candidate("cleaned model", bare, Plan(), least, place.backend, place.target))
    if only_plan:
        return plans, tuple(skips)
    return [*plans, *cleaned, input_candidate(decisions[0].prepared)], tuple(skips)


def deciding(decisions: Sequence[Decision], proof: Proof) -> Decision:
    """The decision that the kept candidate came from; the first when it is the input model."""
    return next((d for d in decisions if d.prepared.backend.name == proof.kept.backend.name), decisions[0])


def rejected_choices(decision: Decision, proof: Proof) -> list[Revert]:
    """The plan's choices, when the proof rejected the plan as a whole."""
    reason = next(
        (r.reason for r in proof.rejected if r.name == "plan" and r.backend == decision.prepared.backend.name), ""
    )
    plan = decision.plan
    return (
        [Revert(site, choice, f"the whole plan: {reason}") for site, choice in plan.choices.items()] if reason else []
    )


def check_budgets(proof: Proof, options: CompileOptions) -> None:
    """Raise BudgetNotHeld when the result breaks a budget and the best effort was not asked for."""
    broken = broken_budget(proof.accuracy, proof.latency, proof.compiled_bytes, options)
    if broken and not options.best_effort:
        raise BudgetNotHeld(broken, "Loosen the budget, or take the best found with --best-effort.")


def broken_budget(judged: Accuracy, latency: LatencyPair, size_bytes: float, options: CompileOptions) -> str:
    """The budget that the result does not hold, in one sentence; empty when it holds all."""
    median_ms, size_mb = latency.compiled.median_ms, size_bytes / 1e6
    if not judged.held:
        return f"The metric {judged.metric} falls by {judged.drop:.4g}; {options.max_drop:g} is allowed."
    if options.max_latency_ms is not None and median_ms > options.max_latency_ms:
        return f"The fastest found takes {median_ms:.3g} ms; {options.max_latency_ms:g} ms are allowed."
    if options.max_size_mb is not None and size_mb > options.max_size_mb:
        return f"The smallest found has {size_mb:.3g} MB; {options.max_size_mb:g} MB are allowed."
    return ""
