"""The whole story of `lwc compile` on one screen: prepare, decide, prove, write."""

from __future__ import annotations

from dataclasses import dataclass

from lwc.compiler.analysis.shapes import forget_inner_shapes
from lwc.compiler.assemble import assemble_report, write_artifact
from lwc.compiler.core.artifact import Artifact, check_destination, replacing
from lwc.compiler.core.errors import BadPlan, BudgetNotHeld
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext, Pipeline, Skip
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.report import Accuracy, LatencyPair
from lwc.compiler.core.target import Target
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, prepare
from lwc.compiler.prove import LEAST_SPEEDUP_OF_CLEAN, LEAST_SPEEDUP_OF_PLAN, Candidate, Judge, Proof, prove
from lwc.compiler.search.decide import Decider
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.find import Revert, revert_until
from lwc.compiler.search.space import Space
from lwc.passes.precision import PRECISION_PASSES


@dataclass(frozen=True)
class Decision:
    """The plan, the space it was chosen from, and what was taken back or could not be applied."""

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
    decision = decide(prepared, judge, options, timings)
    with replacing(out) as folder:
        with timings.stage("verify", "Measuring against the original"):
            candidates, skipped = candidates_of(prepared, decision, only_plan=options.plan is not None)
            proof = prove(
                prepared, judge, candidates, folder,
                any_speed=options.objective == "size", portable=options.portable,
            )  # fmt: skip
            check_budgets(proof, options)
        reverted = (*decision.reverted, *rejected_choices(decision.plan, proof))
        report = assemble_report(prepared, decision.space, reverted, skipped, proof, options, timings)
        write_artifact(folder, prepared, proof, report)
    return Artifact.open(out, check=False)


def decide(prepared: Prepared, judge: Judge, options: CompileOptions, timings: Timings) -> Decision:
    """Search a plan, or take the user's, then revert its worst sites until it holds on the held-out samples."""
    bench = workbench(prepared)
    if options.plan is not None:
        return Decision(read_plan(options, prepared.clean), Space({}))
    decider = search_space(prepared, bench, options, timings)
    with timings.stage("search", "Searching"):
        found = decider.search()
    with timings.stage("verify", "Verifying on held-out samples"):
        plan, reverted = revert_until(
            found.plan,
            decider.space,
            lambda plan: judge.holds(bench.session(plan)),
            f"the metric falls by more than {options.max_drop:g} on held-out samples",
        )
    return Decision(plan, decider.space, (*found.reverted, *reverted))


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
    space = search_space(prepared, workbench(prepared), options, timings).space
    return [
        AnalysisLine(site.name, site.op, option.choice.name, option.ms, option.bytes, option.loss)
        for site, found in space.options.items()
        for option in found
    ]


def search_space(prepared: Prepared, bench: Workbench, options: CompileOptions, timings: Timings) -> Decider:
    """Sites, ranges, costs and losses: all that search and `lwc analyze` look at."""
    decider = Decider(
        bench,
        prepared.search,
        options.precision,
        options.objective,  # type: ignore[arg-type]
        options.max_drop,
        int(options.max_memory_gb * 1e9),
        timings.progress.advance,
    )
    decider.find_sites()
    with timings.stage("calibrate", "Calibrating"):
        decider.calibrate()
    with timings.stage("cost", "Measuring costs"):
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
        lambda model, plan: apply_plan(model, plan, prepared.target)[0],
        prepared.cache,
        prepared.key,
    )


def apply_plan(model: Model, plan: Plan, target: Target) -> tuple[Model, tuple[Skip, ...]]:
    """A fork with the plan applied, as it will be handed out, and the sites that could not be changed."""
    fork = model.fork()
    outcome = Pipeline(PRECISION_PASSES).run(fork.ir, PassContext(target, plan))
    forget_inner_shapes(fork.ir)
    return fork, outcome.skipped


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
    prepared: Prepared, decision: Decision, *, only_plan: bool
) -> tuple[list[Candidate], tuple[Skip, ...]]:
    """From the boldest to the safest; a plan that the user gave stands alone."""
    planned, skipped = apply_plan(prepared.clean, decision.plan, prepared.target)
    if only_plan:
        return [Candidate("plan", planned, decision.plan, 0.0)], (*prepared.skipped, *skipped)
    candidates = [
        Candidate(
            "cleaned model", apply_plan(prepared.clean, Plan(), prepared.target)[0], Plan(), LEAST_SPEEDUP_OF_CLEAN
        ),
        Candidate("input model", prepared.original, Plan(), 0.0),
    ]
    if decision.plan.choices:
        candidates.insert(0, Candidate("plan", planned, decision.plan, LEAST_SPEEDUP_OF_PLAN))
    return candidates, (*prepared.skipped, *skipped)


def rejected_choices(plan: Plan, proof: Proof) -> list[Revert]:
    """The plan's choices, when the proof rejected the plan as a whole."""
    reason = dict(proof.rejected).get("plan")
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
