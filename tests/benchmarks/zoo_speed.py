"""Every zoo model through `lwc compile` with default options, against onnxruntime's float and its own int8.

    python tests/benchmarks/zoo_speed.py [--models a,b] [--calibration 64] [--test 128] [--backend ort] [--peers]
                                         [--out table.json]

Speed: ratio to the input model on ONNX Runtime with all optimizations, same threads, alternating blocks.
Accuracy: the task's metric with true labels on test samples that neither calibration nor search saw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import ort as peers
from rounds import times

import lwc
from lwc.compiler.core.artifact import Artifact
from lwc.compiler.core.target import host
from lwc.compiler.measure import latency, representative
from lwc.models import zoo

BUDGET = 0.01
ROUNDS = 9


@dataclass
class Row:
    """One model.

    kept: the backend;  candidates: each backend's milliseconds when raced;  float_score, score: the task's metric on
    test samples, None without a task
    """

    model: str
    kept: str
    speedup: float
    float_score: float | None
    score: float | None
    integer_sites: int
    sites: int
    compile_s: float
    float_ms: float
    candidates: dict[str, float | None]
    peers: dict[str, Any]

    @property
    def drop(self) -> float:
        if self.float_score is None or self.score is None:
            return 0.0
        return self.float_score - self.score


def measure(name: str, args: argparse.Namespace) -> Row:
    source = zoo.path(name)
    samples = list(zoo.samples(name, args.calibration, seed=1))
    test = list(zoo.samples(name, args.test, seed=2, split="test"))
    metric = zoo.metric(name)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        artifact = lwc.compile(
            source, Path(folder) / "out.lwc", calib=samples, metric=metric or "fidelity", max_drop=BUDGET,
            no_cache=not args.keep_cache, backend=args.backend,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        compiled = lwc.load(artifact.folder)
        floating = Plain(peers.session(source))
        feeds = representative(test, floating.names)
        before, after = speed(source, artifact, feeds, args.seconds)
        choices = [site.choice for site in artifact.report.sites]
        return Row(
            name,
            artifact.report.backend,
            before / after,
            score(name, floating, test),
            score(name, compiled, test),
            sum(choice != "float" for choice in choices),
            len(choices),
            seconds,
            before,
            {found["name"]: found["median_ms"] for found in artifact.report.backends},
            _peers(name, source, samples, test, feeds, Path(folder), args) if args.peers else {},
        )


def speed(source: Path, artifact: Artifact, feeds: Mapping[str, np.ndarray], seconds: float) -> tuple[float, float]:
    """Milliseconds of the input model and of the artifact.

    On ONNX Runtime both sides are its plain sessions, so that lwc's own checks of feeds are in neither.
    """
    on_ort = artifact.report.backend == "onnxruntime"

    def deployed() -> Any:
        return Plain(peers.session(artifact.folder / "model.onnx")) if on_ort else lwc.load(artifact.folder)

    before, after = times([lambda: Plain(peers.session(source)), deployed], feeds, seconds, ROUNDS)
    return before, after


class Plain:
    """An onnxruntime session behind lwc's protocol, labels left out."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.names = [port.name for port in session.get_inputs()]
        self._outputs = [port.name for port in session.get_outputs()]
        self.inputs = self.outputs = ()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = self._session.run(None, {name: feeds[name] for name in self.names})
        return dict(zip(self._outputs, results, strict=True))


def score(name: str, session: Any, test: list[dict[str, np.ndarray]]) -> float | None:
    return zoo.score(name, session.run, iter(test)) if zoo.metric(name) is not None else None


def _peers(
    name: str, source: Path, samples: Any, test: Any, feeds: Any, folder: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Speed-up and score of each of onnxruntime's quantizers, or why it failed."""
    found: dict[str, Any] = {}
    for method in ("minmax", "dynamic"):
        out = folder / f"{method}.onnx"
        try:
            if method == "dynamic":
                peers.dynamic(source, out)
            else:
                peers.static(source, out, samples[: args.peer_samples], method)
            session = Plain(peers.session(out))
            before, after = latency([Plain(peers.session(source)), session], feeds, seconds=args.seconds / 2)
            found[method] = {"speedup": before.median_ms / after.median_ms, "score": score(name, session, test)}
        except Exception as error:
            found[method] = {"failed": f"{type(error).__name__}: {str(error)[:100]}"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(zoo.names()))
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--peer-samples", type=int, default=32)
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--backend", default="ort", help="auto: all that are installed")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--keep-cache", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    print(f"{host().processor}, {host().threads} threads")
    columns = ("model", "kept", "float ms", "speed-up", "float score", "score", "integer sites", "compile s", "peers")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in args.models.split(","):
        try:
            row = measure(name, args)
        except lwc.LwcError as error:
            print(f"| {name} | failed: {error} |", flush=True)
            continue
        rows.append(row)
        if args.out:
            args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
        scores = [f"{value:.4f}" if value is not None else "-" for value in (row.float_score, row.score)]
        print(
            f"| {row.model} | {row.kept} | {row.float_ms:.3f} | {row.speedup:.2f} | {scores[0]} | {scores[1]} "
            f"| {row.integer_sites}/{row.sites} | {row.compile_s:.0f} | {json.dumps(row.peers)} |",
            flush=True,
        )
    integer = [row.speedup for row in rows if row.integer_sites]
    print("\nbackends kept: " + ", ".join(f"{name} {n}" for name, n in Counter(row.kept for row in rows).most_common()))
    print(f"slowest {min(row.speedup for row in rows):.3f}, largest drop {max(row.drop for row in rows):.4f}")
    if integer:
        mean = float(np.exp(np.mean(np.log(integer))))
        print(f"geometric mean where int8 applies: {mean:.3f} over {len(integer)} models")


if __name__ == "__main__":
    main()
