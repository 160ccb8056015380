"""What --sparsity gains over lwc's own result without it.

    python tests/benchmarks/sparsity_speed.py [--models digits-cnn,digits-transformer,resnet18,magika,...]
                                              [--calibration 512] [--test 512] [--sparsity auto] [--recover MINUTES]
                                              [--out table.json]

Speed: both artifacts and the input model in alternating blocks, ratios to the input model on ONNX Runtime.
Accuracy: the task's metric with true labels. Of zoo tasks on samples that neither calibration nor search saw; of the
digits models, which hold few, on the half that was held out of the search, as the report has it.
resnet18: 224x224, random weights, 30 % fewer multiply-adds; unpruned against pruned on the clock, in float and in
int8, accuracy left aside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from peers import ort as peers
from rounds import times
from zoo_speed import ROUNDS, Plain, score

import lwc
from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import macs
from lwc.compiler.benches import numbers_of
from lwc.compiler.core.artifact import Artifact
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Pruned, Site
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.target import host
from lwc.compiler.measure import representative
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.group_readers import elimination_of
from lwc.compiler.search.widths import width_at
from lwc.models import digits, structures, zoo

BUDGET = 0.01
RESNET_SHARE = 0.17  # of the channels of every group: 30 % of the multiply-adds


@dataclass
class Row:
    """One model: speed-ups over the input model without and with sparsity, and what the metric falls by.

    gain: the one over the other, measured side by side;  pruned: groups that lost channels
    """

    model: str
    precision_only: float
    sparse: float
    gain: float
    drops: tuple[float | None, float | None]
    pruned: str
    compile_s: tuple[float, float]


def measure(name: str, args: argparse.Namespace) -> Row:
    source, samples, metric, test = task(name, args)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            lwc.compile(
                source, Path(folder) / sparsity.replace(":", "_"), calib=samples, metric=metric, max_drop=BUDGET,
                backend=args.backend, sparsity=sparsity, recover=recover, cache=Path(folder) / "cache",
            )
            for sparsity, recover in (("none", None), (args.sparsity, args.recover))
        ]  # fmt: skip
        speeds = side_by_side(source, found, representative(samples, Plain(peers.session(source)).names), args.seconds)
        drops = tuple(dropped(name, source, artifact, test) for artifact in found)
        seconds = [artifact.report.timings_s["total"] for artifact in found]
        return Row(
            name, speeds[0], speeds[1], speeds[1] / speeds[0], (drops[0], drops[1]), cut(found[1]),
            (seconds[0], seconds[1]),
        )  # fmt: skip


def task(name: str, args: argparse.Namespace) -> tuple[Path, list[Any], Any, list[Any]]:
    """The model's file, samples to calibrate on, its metric and samples to test on."""
    if name.startswith("digits-"):
        kind: Any = name.removeprefix("digits-")
        return digits.path(kind), digits.unseen(), "top1", []
    samples = list(zoo.samples(name, args.calibration, seed=1))
    test = list(zoo.samples(name, args.test, seed=2, split="test"))
    return zoo.path(name), samples, zoo.metric(name) or "fidelity", test


def dropped(name: str, source: Path, artifact: Artifact, test: Sequence[Any]) -> float | None:
    """Of the metric: measured anew, or what the report says where there are no samples beyond it."""
    if not test:
        return artifact.report.accuracy.drop
    sessions = (Plain(peers.session(source)), lwc.load(artifact.folder))
    before, after = (score(name, each, list(test)) for each in sessions)
    return None if before is None or after is None else before - after


def side_by_side(
    source: Path, artifacts: Sequence[Artifact], feeds: Mapping[str, np.ndarray], seconds: float
) -> list[float]:
    """Speed-ups over the input model."""

    def deployed(artifact: Artifact) -> Any:
        if artifact.report.backend == "onnxruntime":
            return Plain(peers.session(artifact.folder / "model.onnx"))
        return lwc.load(artifact.folder)

    opens = [lambda: Plain(peers.session(source)), *((lambda a=artifact: deployed(a)) for artifact in artifacts)]
    before, *after = times(opens, feeds, seconds, ROUNDS)
    return [before / ms for ms in after]


def cut(artifact: Artifact) -> str:
    """How many of the groups lost channels."""
    groups = [site for site in artifact.report.sites if site.kind == "channels"]
    return f"{sum(site.choice != 'whole' for site in groups)}/{len(groups)}"


def resnet18(args: argparse.Namespace) -> None:
    """Both formats everywhere, without and with the channels; random weights have nothing to search for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "resnet18.onnx"
        onnx.save(structures.resnet18(), source)
        x = Plain(peers.session(source)).names[0]
        images = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)
        options = CompileOptions(calib=[{x: image[None]} for image in images], backend="ort", no_cache=True)
        prepared = prepare(Model.open(source), options, Timings(Silent()))
        numbers = numbers_of(prepared, options, Timings(Silent()))
        decider = Decider(numbers.bench, numbers, Wanted("int8"))
        decider.find_sites()
        decider.calibrate()
        pruned = narrowed(prepared.clean, prepared.target.channel_alignment)
        for precision, formats in (("fp32", {}), ("int8", decider.static_choices())):
            plans = [Plan({**formats, **gone}, numbers.ranges) for gone in ({}, pruned)]
            models = [prepared.apply(prepared.clean, plan) for plan in plans]
            paths = [folder / f"{precision}{k}.onnx" for k in range(2)]
            for model, path in zip(models, paths, strict=True):
                model.save(path)
            whole, less = times(
                [lambda path=path: Plain(peers.session(path)) for path in paths], {x: images[:1]}, args.seconds, ROUNDS
            )
            print(f"resnet18 {precision}: {whole:.2f} ms, pruned {less:.2f} ms: {less / whole:.2f}", flush=True)
        work = [multiply_adds(prepared.apply(prepared.clean, Plan(gone))) for gone in ({}, pruned)]
        print(f"resnet18: {1 - work[1] / work[0]:.0%} fewer multiply-adds", flush=True)


def narrowed(model: Model, alignment: int) -> dict[Site, Choice]:
    """Every group without RESNET_SHARE of its channels, the smallest ones."""
    nodes, choices = model.by_name(), dict[Site, Choice]()
    for group in find_channels(model.ir).groups:
        gone = group.size - width_at(group, 1.0 - RESNET_SHARE, alignment)
        choices[group.site] = Pruned(tuple(sorted(map(int, elimination_of(group, nodes, {}).channels[:gone]))))
    return choices


def multiply_adds(model: Model) -> int:
    """Of one run of the model."""
    sized = model.fork()
    infer_shapes(sized.ir)
    return sum(macs(node) for node in sized.graph)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="digits-cnn,digits-transformer,resnet18")
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--test", type=int, default=512)
    parser.add_argument("--backend", default="ort", help="auto: all that are installed")
    parser.add_argument("--sparsity", default="auto")
    parser.add_argument("--recover", type=float, help="minutes of distillation, of the sparse one")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(f"{host().processor}, {host().threads} threads")
    columns = ("model", "precision only", "sparse", "gain", "drops", "groups pruned", "compile s")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows: list[Row] = []
    for name in args.models.split(","):
        if name == "resnet18":
            resnet18(args)
            continue
        row = measure(name, args)
        rows.append(row)
        if args.out:
            args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
        drops = ", ".join("-" if drop is None else f"{drop:.4f}" for drop in row.drops)
        print(
            f"| {row.model} | {row.precision_only:.2f} | {row.sparse:.2f} | {row.gain:.2f} | {drops} | {row.pruned} "
            f"| {row.compile_s[0]:.0f}, {row.compile_s[1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
