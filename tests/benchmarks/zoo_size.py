"""Every zoo model through `lwc compile --objective size`: how much smaller the file is at a drop within the budget.

    python tests/benchmarks/zoo_size.py [--models a,b] [--calibration 64] [--test 400] [--backend ort] [--out FILE]

Ratio: bytes of the input model, with its external data, to those of the compiled model.onnx, with its own.
Accuracy: the task's metric with true labels on test samples that neither calibration nor search saw; for models
without a task the fidelity that the report measured. Choices: how many sites of the plan have each format.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from peers import ort as peers
from zoo_speed import BUDGET, Plain, score

import lwc
from lwc.models import zoo


@dataclass(frozen=True)
class Row:
    """One model. float_score, score: the task's metric on test samples; without a task what the report says."""

    model: str
    original_bytes: int
    compiled_bytes: int
    float_score: float
    score: float
    choices: dict[str, int]
    compile_s: float

    @property
    def ratio(self) -> float:
        return self.original_bytes / self.compiled_bytes

    @property
    def drop(self) -> float:
        return self.float_score - self.score

    def __str__(self) -> str:
        choices = ", ".join(f"{count} {name}" for name, count in sorted(self.choices.items()))
        return (
            f"| {self.model} | {self.original_bytes / 1e6:.2f} | {self.compiled_bytes / 1e6:.2f} | {self.ratio:.2f} "
            f"| {self.float_score:.4f} | {self.score:.4f} | {self.drop:+.4f} | {choices} | {self.compile_s:.0f} |"
        )


def measure(name: str, args: argparse.Namespace) -> Row:
    source = zoo.path(name)
    samples = list(zoo.samples(name, args.calibration, seed=1))
    metric = zoo.metric(name)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        artifact = lwc.compile(
            source, Path(folder) / "out.lwc", calib=samples, metric=metric or "fidelity", max_drop=BUDGET,
            objective="size", backend=args.backend, no_cache=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        report = artifact.report
        scores = [report.accuracy.original, report.accuracy.compiled]
        if metric is not None:
            test = list(zoo.samples(name, args.test, seed=2, split="test"))
            sessions = (Plain(peers.session(source)), lwc.load(artifact.folder))
            scores = [float(score(name, session, test) or 0.0) for session in sessions]
        choices = Counter(site.choice for site in report.sites)
        size = {key: int(value) for key, value in report.size.items()}
        return Row(name, size["original_bytes"], size["compiled_bytes"], scores[0], scores[1], dict(choices), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = [name for name in zoo.names() if not name.startswith("light-")]  # their weights are random
    parser.add_argument("--models", default=",".join(trained))
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--test", type=int, default=400, help="test samples; 128 resolve no drop of 0.01")
    parser.add_argument("--backend", default="ort")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    print("| model | MB | compiled MB | ratio | float score | score | drop | choices | compile s |\n|" + "---|" * 9)
    for name in args.models.split(","):
        try:
            rows.append(measure(name, args))
        except lwc.LwcError as error:
            print(f"| {name} | failed: {error} |", flush=True)
            continue
        print(rows[-1], flush=True)
    if rows:
        mean = math.exp(sum(math.log(row.ratio) for row in rows) / len(rows))
        worst = max(row.drop for row in rows)
        print(f"\ngeometric mean {mean:.2f}x over {len(rows)} models, largest drop {worst:.4f}")
    if args.out:
        args.out.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1))


if __name__ == "__main__":
    main()
