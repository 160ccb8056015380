"""Four-bit weights in groups of 32: what lwc's layer-wise rounding loses against rounding to the nearest, same size.

    python tests/benchmarks/int4.py [--models docstrings,minilm-l3,minilm-stories,ppocr-v4-rec]
                                    [--calibration 64] [--test 128] [--sites all|tables|products]

minilm-stories is minilm-l3 on another task's sentences, of which there are some 600 instead of 25 documents.
Every matrix that a four-bit form is offered for is in it, nothing else is changed. 'nearest' takes scales from the
least and greatest weight of a group, as onnxruntime's MatMulNBits quantizer and most tools do; 'nearest, mse' searches
them. Loss: what the task's metric falls by (true labels), and the relative squared error of the outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lwc.compiler.benches import workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Site, Weight4
from lwc.compiler.core.progress import Silent
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.relative_error import relative_error
from lwc.models import docstrings, zoo
from lwc.models.tasks import minilm_stories

DOCSTRINGS = "docstrings"
# Further tasks of zoo models: the model, and the module of its samples and metric.
TASKS: Mapping[str, tuple[str, Any]] = {"minilm-stories": ("minilm-l3", minilm_stories)}


def data(name: str, args: argparse.Namespace) -> tuple[Any, list[Any], list[Any]]:
    """Path, calibration samples, test samples."""
    if name == DOCSTRINGS:
        splits = [list(docstrings.samples(split)) for split in ("calibration", "test")]
        return docstrings.path(), splits[0][: args.calibration], splits[1][: args.test]
    if name in TASKS:
        model, task = TASKS[name]
        samples = list(task.samples(args.calibration, split="calibration"))
        return zoo.path(model), samples, list(task.samples(args.test, split="test"))
    samples = list(zoo.samples(name, args.calibration, seed=1))
    return zoo.path(name), samples, list(zoo.samples(name, args.test, seed=2, split="test"))


def score(name: str, session: Any, test: list[Any]) -> float:
    if name in zoo.names():
        return float(zoo.score(name, session.run, iter(test)))
    metric = docstrings.metric() if name == DOCSTRINGS else TASKS[name][1].metric()
    for sample in test:
        metric.update(session.run(sample), sample)
    return float(metric.compute())


def plans(decider: Decider, sites: str) -> dict[str, Mapping[Site, Choice]]:
    """The choices of each way of rounding, all of the same size."""
    decider.find_sites()
    if sites != "all":
        kept = {site: c for site, c in decider.offered.items() if (site.op == "Gather") == (sites == "tables")}
        decider.offered = kept
    offered = decider.offered
    decider._costs = {(site, choice): 0.0 for site, choices in offered.items() for choice in choices}
    four = {site: c for site, choices in offered.items() for c in choices if isinstance(c, Weight4)}
    decider.solve_weights()
    solved = {site: c for site, choices in decider.offered.items() for c in choices if isinstance(c, Weight4)}
    nearest = {site: replace(c, symmetric=solved[site].symmetric, rounding="nearest") for site, c in four.items()}
    return {
        "nearest": {site: replace(c, weight_range="minmax") for site, c in nearest.items()},
        "nearest, mse": {site: replace(c, weight_range="mse") for site, c in nearest.items()},
        "lwc": solved,
    }


def measure(name: str, args: argparse.Namespace) -> None:
    path, samples, test = data(name, args)
    options = CompileOptions(calib=samples, no_cache=True, precision="w4", backend="ort")
    prepared = prepare(Model.open(path), options, Timings(Silent()))
    bench = workbench(prepared)
    floating = bench.open(Plan())
    before = score(name, floating, test)
    decider = Decider(bench, Numbers(bench, prepared.search), Wanted("w4"))
    for label, choices in plans(decider, args.sites).items():
        session = bench.open(Plan(choices))
        noise = np.mean([relative_error(floating.run(sample), session.run(sample)) for sample in test])
        after = score(name, session, test)
        print(
            f"| {name} | {len(choices)} | {label} | {before:.4f} | {after:.4f} | {before - after:+.5f} | {noise:.5f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="docstrings,minilm-l3,minilm-stories,ppocr-v4-rec")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--sites", choices=("all", "tables", "products"), default="all")
    args = parser.parse_args()
    print("| model | matrices | rounding | score in float | in four bits | added loss | output error |\n|" + "---|" * 7)
    for name in args.models.split(","):
        measure(name, args)


if __name__ == "__main__":
    main()
