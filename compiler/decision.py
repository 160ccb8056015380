"""What is decided for each runtime: numbers are measured, a plan is searched, and taken back where it fails."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from lwc import backends
from lwc.compiler.benches import around, numbers_of, workbench
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.plan import Choice, Plan, Pruned, Scaling, Site
from lwc.compiler.elsewhere import boldest, located, untimed
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, runtimes
from lwc.compiler.recovery import taught
from lwc.compiler.refitting import refitted, solved
from lwc.compiler.replay import read_plan, replayed
from lwc.compiler.search.decide import MEASURED, Decider, Wanted, is_hint
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.rescale import Rescaler, scaled
from lwc.compiler.search.revert import Revert, revert_until
from lwc.compiler.search.solve import Objective
from lwc.compiler.search.space import SPARSE, Space
from lwc.compiler.settle import Decision, searched
from lwc.passes.sparsity.compensate import IN_ORDER


def decide_for_all(
    prepared: Prepared, numbers: Numbers, judge: Judge, options: CompileOptions, timings: Timings
) -> tuple[list[Decision], dict[str, str]]:
    """A decision for each runtime, and why a runtime has none. Raises UnsupportedOperator when none can run it."""
    places, refused = able(prepared, options)
    if options.plan is not None:
        return decide_again(places, numbers, options, timings), refused
    decisions = list[Decision]()
    if options.recover_minutes:
        decisions += decide_taught(places[0], numbers, judge, options, timings)
        if decisions and options.sparse.asked:
            return decisions, refused
    for place in places:
        if not place.backend.fixes_shapes:
            decisions += decide(place, numbers, judge, options, timings)
    for place in places:
        if place.backend.fixes_shapes:
            solved_already = [d for d in decisions if d.had.choices]
            decisions += decide_elsewhere(place, decisions, numbers, judge, options, timings)
            decisions += [carried_over(each, place) for each in solved_already]
    return decisions, refused


def decide_again(
    places: Sequence[Prepared], numbers: Numbers, options: CompileOptions, timings: Timings
) -> list[Decision]:
    """The user's plan on every runtime; its layers are solved in order once, on the reference, where it says so."""
    first = Decision(places[0], replayed(options, numbers), Space({}))
    if any(choice.compensation == IN_ORDER for _, choice in first.plan.sites(Pruned)):
        first = solved(places[0], replace(first.plan, scalings=()), first, options, timings)
    return [replace(first, prepared=first.prepared.on(place.backend)) for place in places]


def decide_taught(
    place: Prepared, numbers: Numbers, judge: Judge, options: CompileOptions, timings: Timings
) -> list[Decision]:
    """Number formats for a model that was pruned and taught, on every runtime; nothing where that fails the budget."""
    found = taught(place, workbench(place), numbers, judge, options, timings)
    if found is None:
        return []
    plain = replace(options, sparsity="none", recover_minutes=0.0)
    numbers = numbers_of(found.prepared, plain, timings)
    decisions, _ = decide_for_all(found.prepared, numbers, judge, plain, timings)
    return [replace(each, had=found.had, done=f"{each.done} {found.note}".strip()) for each in decisions]


def able(prepared: Prepared, options: CompileOptions) -> tuple[list[Prepared], dict[str, str]]:
    """Where the cleaned model runs, and why a runtime refuses it; what stands in for that one is asked next.

    Raises UnsupportedOperator when none can run it.
    """
    places: list[Prepared] = []
    refused: dict[str, str] = {}
    waiting = [prepared.on(backend) for backend in runtimes(options)]
    while waiting:
        place = waiting.pop(0)
        name = place.backend.name
        reason = refusal(place)
        if not reason:
            places.append(place)
            continue
        refused[name] = reason
        if (other := backends.stand_in(name)) is not None:
            waiting.insert(0, prepared.on(other))
    if not places:
        raise UnsupportedOperator(f"{prepared.clean.name} cannot run: {'; '.join(refused.values()).rstrip('.')}.")
    return places, refused


def refusal(place: Prepared) -> str:
    """Why the runtime cannot run the cleaned model; empty when it can. One that compiles for shapes is tried."""
    if place.backend.fixes_shapes:
        return workbench(place).refusal(Plan())
    reasons = place.backend.supports(place.clean, place.target).refused
    return "; ".join(f"'{name}': {reason}" for name, reason in reasons.items())


def rescaled(prepared: Prepared, options: CompileOptions, timings: Timings) -> Prepared:
    """With channels of the cleaned model scaled as the user's plan says; else so that int8 loses less, where it can.

    For size nothing is tried: weights that are rounded alone have a scale per channel or group of their own.
    """
    if options.plan is not None:
        return scaled_by(prepared, read_plan(options, prepared.clean).scalings)
    if options.objective == "size":
        return prepared
    place = prepared.on(runtimes(options)[0])
    decider = Decider(workbench(place), numbers_of(prepared, options, timings), _wanted(options))
    decider.find_sites()
    with timings.stage("calibrate", "Scaling channels"):
        bench, memory = workbench(prepared), int(options.max_memory_gb * 1e9)
        found = Rescaler(bench, decider.static_choices(), memory, timings.progress.advance).choose()
    return scaled_by(prepared, found)


def scaled_by(prepared: Prepared, scalings: tuple[Scaling, ...]) -> Prepared:
    """The workplace of the scaled model."""
    if not scalings:
        return prepared
    return replace(around(prepared, scaled(prepared.clean, scalings, prepared.target)), scalings=scalings)


def decide(
    place: Prepared, numbers: Numbers, judge: Judge, options: CompileOptions, timings: Timings
) -> list[Decision]:
    """A plan of number formats for one runtime; where channels may leave, another one in which some do.

    A sparsity that was asked for is in every plan.
    """
    decider = search_space(place, numbers, options, timings)
    if options.sparse.asked:
        with timings.stage("sensitivity", "Looking at what is to leave"):
            decider.ask_for_sparsity()
    decided = [searched(decider, place, judge, options, timings)]
    if options.sparse.kind == "auto":
        with timings.stage("sensitivity", f"Measuring channels on {place.backend.name}"):
            decider.offer_groups(replace(decided[0].plan, scalings=()))
        decided.append(searched(decider, place, judge, options, timings, hasten=options.max_latency_ms is not None))
    sparse = [site for site in (*decider.space.options, *decider.space.start) if site.kind in SPARSE]
    if options.sparse.prunes and not sparse:
        timings.progress.note("No channels can leave where that pays; lwc inspect --groups says which cannot, and why.")
    elif sparse and options.sparse.prunes:
        decided += refitted(decider, decided[-1], judge, options, timings)
    decider.bench.close()
    numbers.bench.close()
    return decided


def decide_elsewhere(
    place: Prepared,
    decided: Sequence[Decision],
    numbers: Numbers,
    judge: Judge,
    options: CompileOptions,
    timings: Timings,
) -> list[Decision]:
    """For a runtime that compiles too long to be asked about every plan; the proof measures what comes of it there.

    Its plans: what was decided for the reference, as far as it executes that; the asked format, or int8 where nothing
    was decided, wherever the budget allows; short floats everywhere, where it has them as a property of the whole
    model; all in float. A sparsity that was asked for is in all of them.
    """
    executed = place.target.choices
    sources = [d for d in decided if d.prepared.backend.name == place.reference.name and not d.had.choices]
    if not sources:
        sources = decide(place.on(place.reference).limited_to(executed), numbers, judge, options, timings)
    source = sources[0]
    bench = workbench(place)
    decider = Decider(bench, numbers, _wanted(options))
    decider.find_sites()
    decided_already = bool(_executed(source.plan, executed))
    bold = boldest(source.space, executed, options.precision, numbers, decided=decided_already)
    with timings.stage("verify", "Verifying on held-out samples"):
        held, reverted = _held_on_reference(place, bold, source.space, judge, options)
    reverted = [*located(source.reverted, place.reference.name), *reverted]
    short = {site: c for site, choices in decider.offered.items() for c in choices if is_hint(c, place.target)}
    plans = _plans_elsewhere([each.plan for each in sources], held, short, place)
    refused = {plan.digest(): bench.refusal(plan) for plan in plans}
    for plan in plans:
        if reason := refused[plan.digest()]:
            reverted += [Revert(site, choice, reason) for site, choice in plan.choices.items()]
    listed = untimed(decider.offered, source.space, executed)
    runnable = [plan for plan in plans if not refused[plan.digest()]]
    return [Decision(place, plan, Space({}), tuple(reverted), listed=listed) for plan in runnable]


def _held_on_reference(
    place: Prepared, plan: Plan, space: Space, judge: Judge, options: CompileOptions
) -> tuple[Plan, list[Revert]]:
    """What is left of the plan once the reference runtime holds the budget with it."""
    bench = workbench(place.on(place.reference))
    held, reverted = revert_until(
        plan,
        space,
        lambda plan: not bench.refusal(plan) and judge.holds(bench.session(plan)),
        f"the metric falls by more than {options.max_drop:g} on held-out samples",
        _wanted(options).objective,
    )
    bench.close()
    return held, reverted


def _plans_elsewhere(
    plans: Sequence[Plan], held: Plan, short: Mapping[Site, Choice], place: Prepared
) -> list[Plan]:
    """What the other runtime is offered, boldest first.

    plans: the reference's, formats alone first;  held: bold formats that hold;  short: floats
    """
    kept, *sparse = [_executed(plan, place.target.choices) for plan in plans]
    asked = {s: choice for s, choice in kept.items() if s.kind in SPARSE}
    wished = [
        *(replace(plans[0], choices=choices) for choices in (*sparse, kept)),
        replace(held, choices={**held.choices, **asked}),
        replace(plans[0], choices={**short, **asked}),
        Plan(asked),
    ]
    return [replace(plan, scalings=place.scalings) for plan in wished]


def carried_over(decision: Decision, place: Prepared) -> Decision:
    """A decision for a model whose layers were solved, as far as another runtime executes it."""
    plan = replace(decision.plan, choices=_executed(decision.plan, place.target.choices))
    return replace(decision, prepared=decision.prepared.on(place.backend), plan=plan, space=Space({}), done="")


def _executed(plan: Plan, executed: Collection[str]) -> dict[Site, Choice]:
    """The choices that a runtime executes; what leaves the model, leaves it for every runtime."""
    return {s: choice for s, choice in plan.choices.items() if choice.name in executed or s.kind in SPARSE}


def search_space(
    place: Prepared, numbers: Numbers, options: CompileOptions, timings: Timings, method: str = MEASURED
) -> Decider:
    """Sites, ranges, costs and losses: all that search and `lwc analyze` look at."""
    decider = Decider(workbench(place), numbers, _wanted(options), timings.progress.advance)
    decider.find_sites()
    with timings.stage("calibrate", "Calibrating"):
        decider.calibrate()
    with timings.stage("cost", f"Measuring costs on {place.backend.name}"):
        decider.measure_costs()
    with timings.stage("calibrate", "Rounding weights"):
        decider.solve_weights()
    with timings.stage("sensitivity", "Measuring losses", decider.measurements()):
        decider.measure_losses(method)
    return decider


def _wanted(options: CompileOptions) -> Wanted:
    objective: Objective = options.objective  # type: ignore[assignment]
    return Wanted(options.precision, options.sparse, objective, options.max_drop, options.seed)
