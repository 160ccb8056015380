"""Gather what was decided and measured into the report, and seal the artifact."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lwc._version import __version__
from lwc.compiler.analysis.sites import find_sites, macs, parameters, unrounded
from lwc.compiler.analysis.value_sizes import sized_for
from lwc.compiler.core.artifact import PAGE, PLAN, seal, sha256, write_report
from lwc.compiler.core.check import foreign_operators
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Skip
from lwc.compiler.core.plan import Choice, Float, Plan, Site
from lwc.compiler.core.report import CompileReport, SiteReport
from lwc.compiler.core.target import Target
from lwc.compiler.measure import own_peak_mb
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings
from lwc.compiler.prove import Proof
from lwc.compiler.render import render_html
from lwc.compiler.search.revert import Revert
from lwc.compiler.search.space import SPARSE, Space, node_name
from lwc.compiler.sparse_lines import SparseLines

REPORT_SCHEMA = 1
STAGES = ("load", "canonicalize", "calibrate", "cost", "sensitivity", "search", "build", "tune", "verify")


def assemble_report(
    prepared: Prepared,
    space: Space,
    reverted: tuple[Revert, ...],
    skipped: tuple[Skip, ...],
    refused: Mapping[str, str],
    proof: Proof,
    options: CompileOptions,
    timings: Timings,
    pareto: Sequence[dict[str, Any]] = (),
) -> CompileReport:
    """report.json as CONTRACT has it. refused: backend -> why it could not take the model;  pareto: the front"""
    return CompileReport(
        schema=REPORT_SCHEMA,
        lwc_version=__version__,
        model=_model_facts(prepared.original, proof.original_bytes),
        target=_target_facts(proof.kept.target),
        backend=proof.kept.backend.name,
        options=options.resolved(),
        calibration=_calibration_facts(prepared),
        latency=proof.latency,
        accuracy=proof.accuracy,
        fidelity={"outputs": proof.fidelity},
        size=_size_facts(proof),
        memory=_memory_facts(proof),
        sites=site_reports(sized_for(prepared.clean, prepared.feeds), space, proof.kept.plan, reverted),
        reverted=tuple({"site": r.site.name, "choice": r.choice.name, "reason": r.reason} for r in reverted),
        skipped=(*({"site": s.site.name, "pass": s.by, "reason": s.reason} for s in skipped), *_left_alone(prepared)),
        backends=tuple(backend_lines(proof, refused)),
        timings_s={**dict.fromkeys(STAGES, 0.0), **timings.seconds, "total": time.perf_counter() - timings.start},
        peak_compile_memory_mb=own_peak_mb() or 0.0,
        pareto=tuple(pareto),
    )


def backend_lines(proof: Proof, refused: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What each candidate backend gave, or why it gave nothing."""
    kept = proof.kept.backend.name
    for name, ms in proof.raced.items():
        reasons = [f"{titled(r.name, r.plan)}: {r.reason}" for r in proof.rejected if r.backend == name]
        if name == kept:
            reasons = [f"kept: {titled(proof.kept.name, proof.kept.plan)}", *slower_ones(proof), *reasons]
            reasons += [proof.reach] if proof.reach else []
        yield {"name": name, "median_ms": ms, "reason": "; ".join(reasons) or "slower"}
    lost = dict.fromkeys(r.backend for r in proof.rejected if r.backend not in proof.raced)
    for name in lost:
        reasons = [f"{r.name}: {r.reason}" for r in proof.rejected if r.backend == name]
        yield {"name": name, "median_ms": None, "reason": "; ".join(reasons)}
    for name, reason in refused.items():
        yield {"name": name, "median_ms": None, "reason": reason}


def slower_ones(proof: Proof) -> list[str]:
    """Candidates of the kept runtime that were raced and not tried any further, with their times."""
    kept, tried = proof.kept, [(r.name, r.backend, r.plan) for r in proof.rejected]
    return [
        f"{titled(each.name, each.plan)}: {ms:.3f} ms"
        for each, ms in proof.times
        if each.backend.name == kept.backend.name
        and (each.name, each.plan) != (kept.name, kept.plan)
        and (each.name, each.backend.name, each.plan) not in tried
    ]


def titled(name: str, plan: Plan) -> str:
    """A candidate's name, with what its plan chooses."""
    counts = Counter(choice.name for choice in plan.choices.values())
    return f"{name} ({', '.join(f'{count} {choice}' for choice, count in counts.items())})" if counts else name


def write_artifact(folder: Path, proof: Proof, report: CompileReport) -> None:
    """Plan, report and page beside the model, and the manifest over all."""
    (folder / PLAN).write_text(proof.kept.plan.to_json(), encoding="utf-8")
    write_report(folder, report)
    (folder / PAGE).write_text(render_html(report), encoding="utf-8")
    seal(folder, proof.kept.backend.name, proof.kept.target, proof.inputs, proof.outputs)


def site_reports(model: Model, space: Space, plan: Plan, reverted: Iterable[Revert]) -> tuple[SiteReport, ...]:
    """One line per site, in the graph's order, with the choice and why.  model: with the sizes of a sample"""
    taken_back: dict[Site, str] = {}
    for revert in reverted:
        known = taken_back.get(revert.site)
        taken_back[revert.site] = f"{known}; {revert.reason}" if known else revert.reason
    sites = dict.fromkeys((*space.options, *plan.choices))
    order = {node.name: (k, node) for k, node in enumerate(model.graph)}
    sparse = SparseLines(model)
    lines = []
    for site in sorted(sites, key=lambda s: order[node_name(s)][0]):
        choice = plan.choices.get(site, Float())
        option = space.option(site, choice) if site in space.options else None
        if option is not None and len(space.options[site]) == 1:
            option = None  # asked for, and not priced
        node = order[node_name(site)][1]
        is_sparse = site.kind in SPARSE
        lines.append(
            SiteReport(
                site.name,
                site.op,
                site.kind,
                sparse.choice(site, choice) if is_sparse else choice.name,
                _known(option.loss) if option else None,
                _known(option.ms) if option else None,
                sparse.parameters(site, choice) if is_sparse else parameters(node),
                sparse.macs(site, choice) if is_sparse else macs(node),
                taken_back.get(site) or (sparse.reason if is_sparse else _reason)(space, site, choice),
            )
        )
    return tuple(lines)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _reason(space: Space, site: Site, choice: Choice) -> str:
    if site not in space.options:
        return "the plan says so"
    floating = space.options[site][0]
    if math.isnan(floating.ms):
        return "no plan with another choice was raced" if isinstance(choice, Float) else "timed in the whole model"
    if not isinstance(choice, Float):
        ms = space.option(site, choice).ms
        why = ", for fewer crossings or bytes" if ms > floating.ms else ""
        return f"{ms:.3f} ms against {floating.ms:.3f} ms in float{why}"
    best = min(space.options[site][1:], key=lambda option: option.ms)
    if best.ms >= floating.ms:
        return f"{best.choice.name} takes {best.ms:.3f} ms, float {floating.ms:.3f} ms"
    return f"{best.choice.name} costs accuracy or crossings that its {floating.ms - best.ms:.3f} ms are not worth"


def _left_alone(prepared: Prepared) -> Iterable[dict[str, str]]:
    """Operators of other domains, which every pass leaves alone, and sites whose constants are no numbers."""
    for domain, op in foreign_operators(prepared.original.ir):
        yield {"site": f"{domain}:{op}", "pass": "", "reason": "operator of another domain, kept as it is"}
    nodes = prepared.clean.by_name()
    for site in find_sites(prepared.clean, prepared.target):
        if reason := unrounded(nodes[site.name]):
            yield {"site": site.name, "pass": "", "reason": reason}


def _model_facts(model: Model, size: int) -> dict[str, Any]:
    return {
        "path": str(model.source) if model.source else None,
        "sha256": sha256(model.source) if model.source else hashlib.sha256(model.digest().encode()).hexdigest(),
        "bytes": size,
        "parameters": model.parameters(),
        "nodes": sum(1 for _ in model.nodes()),
        "opset": model.opset,
    }


def _target_facts(target: Target) -> dict[str, Any]:
    return {"name": target.name, "device": target.device, "fingerprint": target.fingerprint}


def _calibration_facts(prepared: Prepared) -> dict[str, Any]:
    return {
        "samples": len(prepared.search),
        "held_out": len(prepared.held_out),
        "source": prepared.calibration.source,
        "sha256": prepared.calibration.digest(),
    }


def _size_facts(proof: Proof) -> dict[str, Any]:
    return {
        "original_bytes": proof.original_bytes,
        "compiled_bytes": proof.compiled_bytes,
        "ratio": proof.original_bytes / max(1, proof.compiled_bytes),
    }


def _memory_facts(proof: Proof) -> dict[str, Any]:
    return {
        "original_peak_mb": proof.original_peak_mb,
        "compiled_peak_mb": proof.compiled_peak_mb,
        "planned_activations_mb": None if proof.activation_bytes is None else proof.activation_bytes / 1e6,
    }
