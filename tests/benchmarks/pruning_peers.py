"""Channels removed by lwc and by onnxsim 0.8.1, the same multiply-accumulates: what the outputs and the task lose.

    python tests/benchmarks/pruning_peers.py [--models a,b] [--shares 0.1,0.2,0.3] [--methods l2,wanda]
                                             [--calibration 64] [--test 128] [--out F.json]

onnxsim cuts a share of the channels of every chain that it knows (peers/onnxsim_pruning.py). lwc then removes at least
as many multiply-accumulates as the first method did: its own groups, elimination orders, least squares and steps of
its search, with multiply-accumulates in place of milliseconds. Error: relative squared error of the outputs on the
test samples, which neither saw; score: true labels. --out keeps what was measured, so that a run can go on.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from peers import exchange, onnxsim_pruning, ort
from zoo_speed import Plain

from lwc import passes
from lwc.compiler.analysis.shapes import fix_dimensions
from lwc.compiler.analysis.sites import macs
from lwc.compiler.benches import workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Float, Plan, Pruned, Site
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.target import host
from lwc.compiler.options import make_options
from lwc.compiler.prepare import Prepared, Timings, prepare
from lwc.compiler.search.deepen import Deepening
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pruning import Pruner
from lwc.compiler.search.relative_error import relative_error
from lwc.compiler.search.space import Option, Space
from lwc.models import digits, zoo

DIGITS = "digits-cnn"
MODELS = (DIGITS, "mnist-cnn", "ppocr-cls", "ppocr-v4-rec", "ppocr-v4-det", "basic-pitch", "nudenet")
STEPS = 16  # widths of a group
MEASUREMENTS = 300  # of plans in lwc's search
NOISE_SAMPLES = 8  # that these are compared on

Sample = dict[str, np.ndarray]
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A model, samples to calibrate with, and samples that outputs and score are compared on."""

    name: str
    path: Path
    calibration: list[Sample]
    test: list[Sample]

    @staticmethod
    def of(name: str, calibration: int, test: int) -> Task:
        if name == DIGITS:
            seen, unseen = digits.samples("calibration"), digits.samples("test")
            return Task(name, digits.path("cnn"), seen[:calibration], unseen)
        samples = list(zoo.samples(name, calibration, seed=1))
        return Task(name, zoo.path(name), samples, list(zoo.samples(name, test, seed=2, split="test")))

    def score(self, outputs: Sequence[Sample]) -> float | None:
        if self.name == DIGITS:
            pairs = zip(outputs, self.test, strict=True)
            return float(np.mean([next(iter(out.values())).argmax() == s["label"] for out, s in pairs]))
        given = iter(outputs)
        scored = zoo.metric(self.name) is not None
        return zoo.score(self.name, lambda _: next(given), iter(self.test)) if scored else None

    def outputs(self, path: Path) -> list[Sample]:
        session = Plain(ort.session(path))
        return [session.run(sample) for sample in self.test]

    @cached_property
    def inputs(self) -> list[str]:
        return Plain(ort.session(self.path)).names

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self.test[0][name].shape for name in self.inputs}

    @cached_property
    def originals(self) -> list[Sample]:
        return self.outputs(self.path)

    @cached_property
    def macs(self) -> int:
        return self.macs_of(self.path)

    def macs_of(self, path: Path) -> int:
        """Multiply-accumulates of one run on a test sample."""
        model = Model.open(path)
        fix_dimensions(model.ir, self.shapes)
        passes.clean(host()).run(model.ir, PassContext(host()))
        return sum(macs(node) for node in model.ir.graph)

    def row(self, path: Path, seconds: float) -> Row:
        """What a pruned model of this task removes and loses."""
        outputs = self.outputs(path)
        errors = [relative_error(want, got) for want, got in zip(self.originals, outputs, strict=True)]
        removed = 1.0 - self.macs_of(path) / self.macs
        return {"removed": removed, "error": float(np.mean(errors)), "score": self.score(outputs), "s": seconds}


@dataclass
class Lwc:
    """lwc's side: removes ever more of one model."""

    task: Task
    plan: Plan = field(default_factory=Plan)
    reached: float = 0.0

    @cached_property
    def prepared(self) -> Prepared:
        feeds = [{name: sample[name] for name in self.task.inputs} for sample in self.task.calibration]
        fixed = all(sample[name].shape == shape for sample in feeds for name, shape in self.task.shapes.items())
        flags: dict[str, object] = {"calib": feeds, "shape": self.task.shapes if fixed else {}, "no_cache": True}
        return prepare(Model.open(self.task.path), make_options(flags), Timings(Silent()))

    @cached_property
    def pruner(self) -> Pruner:
        bench = workbench(self.prepared)
        return Pruner(bench, Numbers(bench, self.prepared.search))

    @cached_property
    def space(self) -> Space:
        """Every group at STEPS widths; what they save is multiply-accumulates, in place of milliseconds."""
        found: dict[Site, tuple[Option, ...]] = {}
        for site, group in self.pruner.groups.items():
            widths = sorted({max(1, round(group.size * k / STEPS)) for k in range(1, STEPS)}, reverse=True)
            choices = [self.pruner.pruned(site, width) for width in widths if width < group.size]
            narrower = [Option(c, -self.removed(Plan({site: c})), -len(c.removed), 0.0) for c in choices]
            found[site] = (Option(Float(), 0.0, 0, 0.0), *narrower)
        return Space(found)

    def removed(self, plan: Plan) -> float:
        """The share of the multiply-accumulates that a plan takes away."""
        shrunk = self.pruner.channels.without({site: c.removed for site, c in plan.sites(Pruned)})
        kept: dict[str, float] = {}
        for (node, index), masks in shrunk.constants.items():
            if index == 1 and node.name:
                kept[node.name] = math.prod(float(mask.mean()) for mask in masks.values())
        work = {node.name or "": macs(node) for node in self.pruner.bench.model.graph}
        return 1.0 - sum(kept.get(name, 1.0) * count for name, count in work.items()) / sum(work.values())

    def noise(self, plan: Plan) -> float:
        """Error on samples that statistics have not seen: least squares knows the others too well."""
        session, held_out = self.pruner.bench.session(plan), list(self.prepared.held_out)[:NOISE_SAMPLES]
        wanted = [self.prepared.originals["held_out"][k] for k in range(len(held_out))]
        return float(np.mean([relative_error(want, session.run(x)) for want, x in zip(wanted, held_out, strict=True)]))

    def prune(self, least: float, out: Path) -> None:
        """Writes the model with at least this share removed, in steps from what was removed before."""
        bench = self.pruner.bench

        def holds(plan: Plan) -> bool:
            if self.reached >= least:
                return False
            self.reached = self.removed(plan)
            return True

        steps = Deepening(self.space, holds, self.noise, MEASUREMENTS)
        self.plan = steps.run(self.plan)
        bench.apply(bench.model, self.plan).save(out)


def attempt(task: Task, make: Callable[[Path], object]) -> Row:
    """The row of what `make` writes, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        start = time.perf_counter()
        try:
            make(out)
            return task.row(out, time.perf_counter() - start)
        except Exception as error:
            return {"failed": exchange.reason(error)}


def by_onnxsim(task: Task, method: str, share: float) -> Row:
    def make(out: Path) -> None:
        feeds = [{name: sample[name] for name in task.inputs} for sample in task.calibration]
        pruned = onnxsim_pruning.METHODS[method](onnxsim_pruning.simplified(task.path), share, feeds)
        del pruned.graph.value_info[:]  # shapes that it had before, which lwc's count of work would believe
        onnx.save(pruned, out)

    return attempt(task, make)


def measure(task: Task, shares: Sequence[float], methods: Sequence[str]) -> Row:
    """{score, macs, rows: [{share, method: row.., lwc: row}]}"""
    rows: list[Row] = []
    ours = Lwc(task)
    for share in sorted(shares):
        row: Row = {"share": share} | {method: by_onnxsim(task, method, share) for method in methods}
        reached = row[methods[0]].get("removed", share)
        row["lwc"] = attempt(task, lambda out, least=reached: ours.prune(least, out))  # type: ignore[misc]
        rows.append(row)
    return {"score": task.score(task.originals), "macs": task.macs, "rows": rows}


def cell(row: Row, score: float | None) -> str:
    if "failed" in row:
        return f"{row['failed']}"
    drop = "" if row["score"] is None or score is None else f", drop {score - row['score']:+.4f}"
    return f"{row['removed']:.3f}: error {row['error']:.4f}{drop}"


def lines(name: str, found: Row, methods: Sequence[str]) -> Iterator[str]:
    """Of each share: what was removed, and lost; then lwc's error over the first method's."""
    for row in found["rows"]:
        theirs, ours = row[methods[0]], row["lwc"]
        whole = "error" in theirs and "error" in ours and theirs["error"] > 0.0
        ratio = f"{ours['error'] / theirs['error']:.3f}" if whole else ""
        cells = [cell(row[method], found["score"]) for method in (*methods, "lwc")]
        yield "| " + " | ".join([name, f"{row['share']:g}", *cells, ratio]) + " |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--shares", default="0.1,0.2,0.3", help="of the channels, that onnxsim removes")
    parser.add_argument("--methods", default="l2", help=f"of {', '.join(onnxsim_pruning.METHODS)}")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--out", type=Path, help="JSON of the models measured so far")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    methods = args.methods.split(",")
    found: dict[str, Row] = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    print("| " + " | ".join(["task", "share", *methods, "lwc", f"lwc's error / {methods[0]}'s"]) + " |")
    print("|" + "---|" * (len(methods) + 4))
    for name in args.models.split(","):
        if name not in found:
            shares = [float(share) for share in args.shares.split(",")]
            found[name] = measure(Task.of(name, args.calibration, args.test), shares, methods)
            if args.out:
                args.out.write_text(json.dumps(found, indent=1))
        print("\n".join(lines(name, found[name], methods)), flush=True)


if __name__ == "__main__":
    main()
