"""Time of measuring every site's loss: by partial re-runs against by running the whole model for each.

    python tests/benchmarks/sensitivity.py [--models resnet50,mobilenet_v2,ppocr-v4-rec] [--samples 32]
    python tests/benchmarks/sensitivity.py --methods [--models ...]

Prints sites, both times, the speed-up and the largest difference of a loss, relative to the whole model's (losses
below 1e-9, the noise of float32, are not compared). Seconds are of the wall clock, and with --threads 1 of the
processor. --every N runs the whole model for each N-th change only and multiplies the time.
With --methods: rank correlation (Spearman) of each cheap method with the measured losses, and its time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from scipy.stats import spearmanr

from lwc.compiler.analysis.activations import collect
from lwc.compiler.benches import workbench
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Range, Site
from lwc.compiler.core.progress import Silent
from lwc.compiler.data import Calibration
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.search.cheap import METHODS, Evidence
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.job import Change, job_of
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.partial import PartialRuns
from lwc.models import structures, zoo
from lwc.passes.precision import required_values
from lwc.passes.solvers.clipping import minmax

STRUCTURES: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet18": structures.resnet18,
    "resnet50": structures.resnet50,
    "mobilenet_v2": structures.mobilenet_v2,
    "bert": structures.bert,
}
FLOAT_NOISE = 1e-9
MEMORY_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Subject:
    """A model with sites, ranges and a bench."""

    bench: Workbench
    decider: Decider
    changes: list[Change]
    samples: int


def subject(name: str, samples: int, precision: str, threads: int, *, quick: bool) -> Subject:
    """Everything up to the losses, as `lwc compile` does it. quick: ranges from least to greatest value of 8 samples"""
    if name in STRUCTURES:
        model, calib = Model.from_proto(STRUCTURES[name](), name), None
    else:
        model, calib = Model.open(zoo.path(name)), list(zoo.samples(name, 2 * samples, seed=0))
    options = CompileOptions(calib=calib, samples=2 * samples, no_cache=True)
    prepared = prepare(model, options, Timings(Silent()))
    target = prepared.target.with_threads(threads or prepared.target.threads)
    bench = workbench(replace(prepared, target=target))
    decider = Decider(bench, Numbers(bench, prepared.search), Wanted(precision))
    decider.find_sites()
    if quick:
        decider.numbers.ranges = plain_ranges(decider, prepared.search.take(8))
    else:
        decider.calibrate()
    changes: list[Change] = [((site, c),) for site, choices in decider.offered.items() for c in choices[1:]]
    return Subject(bench, decider, changes, min(samples, len(prepared.search)))


def plain_ranges(decider: Decider, samples: Calibration) -> dict[str, Range]:
    """Speed does not depend on ranges; choosing good ones takes longer than all that is measured here."""
    bench = decider.bench
    names = required_values(bench.model.ir, tuple(decider.static_choices()))
    sites = {node: Site(node.name or "", node.op_type, "value") for node in bench.model.graph}
    found = collect(
        bench.model, tuple(sites.values()), samples,
        lambda model, outputs: bench.backend.session(model, bench.target, outputs), values=names,
    )  # fmt: skip
    ranges = {}
    for node, site in sites.items():
        for values, stats in ((node.inputs, found[site].inputs), (node.outputs, found[site].outputs)):
            pairs = zip(values, stats, strict=True)
            ranges.update({value.name: minmax(s) for value, s in pairs if value is not None and s is not None})
    return ranges


def whole_model_losses(it: Subject, changes: Sequence[Change]) -> dict[Change, float]:
    """The model built, opened and run on all samples for every change."""
    losses = {}
    for change in changes:
        session = it.bench.open(Plan(dict(change), it.decider.numbers.ranges))
        errors = [it.bench.error(i, session.run(it.bench.samples[i])) for i in range(it.samples)]
        losses[change] = sum(errors) / len(errors)
    return losses


def timed(measure: Callable[[], Any], threads: int) -> tuple[Any, float]:
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    found = measure()
    return found, clock() - start


def partial_losses(it: Subject) -> dict[Change, float]:
    """By partial re-runs, everything that they need included."""
    with PartialRuns(job_of(it.bench, it.decider.offered, it.decider.numbers.ranges, it.samples, MEMORY_BYTES)) as runs:
        return dict(runs.losses(it.changes))


def compare(name: str, args: argparse.Namespace) -> None:
    """One line of both times."""
    it = subject(name, args.samples, args.precision, args.threads, quick=True)
    partial, partial_s = timed(lambda: partial_losses(it), args.threads)
    some = it.changes[:: args.every]
    whole, whole_s = timed(lambda: whole_model_losses(it, some), args.threads)
    whole_s *= len(it.changes) / len(some)
    differences = [
        (abs(partial[change] - loss) / loss, change[0][0].name) for change, loss in whole.items() if loss > FLOAT_NOISE
    ]
    worst, where = max(differences, default=(0.0, ""))
    print(
        f"{name:16} {len(it.decider.offered):4} sites {len(it.changes):4} changes {it.samples:3} samples   "
        f"whole {whole_s:7.1f} s   partial {partial_s:6.1f} s   {whole_s / partial_s:5.2f}x   "
        f"largest difference {worst:.1e} {where}",
        flush=True,
    )


def evidence_of(it: Subject) -> Evidence:
    """Statistics with Gram matrices; ranges and values are the decider's."""
    job = job_of(it.bench, it.decider.offered, it.decider.numbers.ranges, it.samples, MEMORY_BYTES)
    weighted = [site for site in it.decider.offered if site.kind == "weight"]
    stats = collect(
        it.bench.model, weighted, it.decider.numbers.calibration,
        lambda model, outputs: it.bench.backend.session(model, it.bench.target, outputs), gram=True,
    )  # fmt: skip
    return Evidence(job, it.decider.offered, stats, it.decider.numbers.values)


def rank(name: str, args: argparse.Namespace) -> None:
    """One line: every cheap method against the measured losses."""
    it = subject(name, args.samples, args.precision, args.threads, quick=False)
    measured, seconds = timed(lambda: partial_losses(it), args.threads)
    evidence, stats_s = timed(lambda: evidence_of(it), args.threads)
    cells = []
    for label, method in METHODS:
        guessed, method_s = timed(lambda method=method: method(evidence), args.threads)
        rho = spearmanr([measured[change] for change in it.changes], [guessed[change[0]] for change in it.changes])
        cells.append(f"{label} {rho.statistic:5.2f} {method_s:6.1f} s")
    print(
        f"{name:20} {len(it.changes):4} changes   measured {seconds:6.1f} s   statistics {stats_s:5.1f} s   "
        + "   ".join(cells),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,mobilenet_v2,ppocr-v4-rec")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of both sides; the machine's by default")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--methods", action="store_true")
    args = parser.parse_args()
    for name in args.models.split(",") if args.models != "zoo" else zoo.names():
        try:
            (rank if args.methods else compare)(name, args)
        except LwcError as error:
            print(f"{name:20} {error}", flush=True)


if __name__ == "__main__":
    main()
