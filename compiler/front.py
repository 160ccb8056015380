"""--pareto: every plan that no other beats in time, size and accuracy at once, as an artifact of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lwc.compiler.assemble import assemble_report, write_artifact
from lwc.compiler.benches import workbench
from lwc.compiler.core.pass_ import Skip
from lwc.compiler.core.plan import Plan
from lwc.compiler.judge import Judge
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings
from lwc.compiler.prove import Candidate, Proof, file_bytes, prove
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pareto import Front, Point, find_front
from lwc.compiler.settle import Decision

FRONT = "front"
LEAST_DROP = 1e-3  # a budget of nothing still tells drops apart


def write_front(
    decision: Decision, numbers: Numbers, judge: Judge, folder: Path, options: CompileOptions, timings: Timings
) -> list[dict[str, Any]]:
    """Artifacts in `folder`/front/01, 02 ..., fastest first; the points measured, as report.json holds them.

    Plans over the accuracy budget are on the front, too: their reports say so.
    """
    bench = workbench(decision.prepared)
    with timings.stage("search", "Searching the front"):
        float_ms = bench.milliseconds(Plan())
        found = find_front(
            bench, decision.space, numbers.ranges, float_ms,
            lambda plan: file_bytes(_candidate(plan, decision)[0], folder, options),
            resolution=max(options.max_drop, LEAST_DROP) / 20, each=timings.progress.advance,
        )  # fmt: skip
    with timings.stage("verify", "Measuring the front", len(found.points)):
        written = []
        for point in found.points:
            place = folder / FRONT / point.name
            place.mkdir(parents=True)
            proof = _write(point, decision, judge, place, options, timings)
            written.append(replace(point, bytes=proof.compiled_bytes, artifact=f"{FRONT}/{point.name}"))
            timings.progress.advance()
    return Front(tuple(written), found.beaten).to_list()


def _write(
    point: Point, decision: Decision, judge: Judge, folder: Path, options: CompileOptions, timings: Timings
) -> Proof:
    prepared = decision.prepared
    candidate, skipped = _candidate(point.plan, decision)
    proof = prove(prepared, judge, [candidate], folder, options)
    write_artifact(folder, proof, assemble_report(prepared, decision.space, (), skipped, {}, proof, options, timings))
    return proof


def _candidate(plan: Plan, decision: Decision) -> tuple[Candidate, tuple[Skip, ...]]:
    prepared = decision.prepared
    plan = replace(plan, scalings=prepared.scalings)
    model, skipped = prepared.apply.with_skips(prepared.clean, plan)
    return Candidate("plan", model, plan, 0.0, prepared.backend, prepared.target, prepared.shapes), skipped
