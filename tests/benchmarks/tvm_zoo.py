"""Every zoo model through TVM's kernels in fp32, beside ONNX Runtime: is it taken, is it right, how fast is it.

    python tests/benchmarks/tvm_zoo.py [--models a,b] [--out tvm_zoo.json] [--threads 2] [--seconds 4] [--again]

Columns: whole, or hybrid with the number of parts and of those that TVM runs; CPU seconds to compile; milliseconds of
ONNX Runtime on the file as it is; TVM's as a ratio to that, in alternating rounds with fresh sessions; the greatest
difference of an output over that output's greatest value, over samples of the first one's shapes; what is refused.

Each model runs in a process of its own, with a time limit. The table is written after each model; one that is in it is
not run again but with --again. --lock FILE is held shared while a model is compiled, and alone while it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rounds import times
from tvm_speed import OnnxRuntime

ROUNDS = 3
SAMPLES = 8  # among which some of equal shapes are found


@dataclass
class Row:
    """One model. how: whole, hybrid or what went wrong; refused: reasons, by name of a node; ratio: 0 if not timed"""

    model: str
    how: str
    compile_s: float = 0.0
    difference: float = 0.0
    ort_ms: float = 0.0
    ratio: float = 0.0
    refused: dict[str, str] | None = None
    shapes: dict[str, list[int]] | None = None

    def line(self) -> str:
        """A line of the table."""
        reasons = "; ".join(sorted(set((self.refused or {}).values())))[:200]
        return (
            f"| {self.model} | {self.how} | {self.compile_s:.0f} | {self.ort_ms:.3f} | {self.ratio:.2f} "
            f"| {self.difference:.0e} | {reasons} |"
        )


HEADER = "| model | TVM | compile s | ONNX Runtime ms | ratio | difference | why not all |\n|" + "---|" * 7


def measure(name: str, args: argparse.Namespace) -> Row:
    """The model at the shapes of its first sample."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.chain import open_parts
    from lwc.backends.tvm.compiled import refusal
    from lwc.backends.tvm.cut import cut
    from lwc.backends.tvm.hybrid import Hybrid
    from lwc.backends.tvm.specialized import fixed
    from lwc.compiler.core.model import Model
    from lwc.compiler.core.target import host
    from lwc.models import zoo

    path, target = zoo.path(name), host().with_threads(args.threads)
    model = Model.open(path)
    ports = Signature.of(model).inputs
    samples = [{port.name: item[port.name] for port in ports} for item in zoo.samples(name, SAMPLES)]
    first = samples[0]
    alike = [item for item in samples if all(item[key].shape == first[key].shape for key in first)]
    with held(args.lock, fcntl.LOCK_SH):
        begun = time.process_time()
        sized = fixed(model, tuple(first[port.name].shape for port in ports))
        parts = Hybrid().parts(sized, target)
        session = open_parts(parts, sized, target)
        row = Row(name, kind([part.taken for part in parts]), time.process_time() - begun)
        row.shapes = {key: list(array.shape) for key, array in first.items()}
        if len(parts) > 1 or not parts[0].taken:
            row.refused = dict(cut(sized, target, lambda part: refusal(part, target)).refused)
        peer = OnnxRuntime(path, args.threads)
        row.difference = max(difference(session.run(item), peer.run(item)) for item in alike)
        del session, peer
    if args.seconds:
        with held(args.lock, fcntl.LOCK_EX):
            opens = [lambda: OnnxRuntime(path, args.threads), lambda: open_parts(parts, sized, target)]
            row.ort_ms, ms = times(opens, first, args.seconds, ROUNDS)
            row.ratio = ms / row.ort_ms
    return row


def kind(taken: list[bool]) -> str:
    """The parts in a word."""
    if taken == [True]:
        return "whole"
    return f"hybrid ({sum(taken)} of {len(taken)} parts)" if any(taken) else "refused"


def difference(found: Any, wanted: Any) -> float:
    """The greatest over all outputs; infinite where one is no number, or of another shape."""
    worst = 0.0
    for name, want in wanted.items():
        got, want = np.asarray(found[name], np.float64), np.asarray(want, np.float64)
        if got.shape != want.shape:
            return float("inf")
        if want.size:
            off = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))
            worst = max(worst, off if np.isfinite(off) else float("inf"))
    return worst


@contextlib.contextmanager
def held(path: Path | None, kind: int) -> Iterator[None]:
    """The file's lock, or nothing."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield


def in_own_process(name: str, args: argparse.Namespace) -> Row:
    """The model's row from a new process; what went wrong where there is none."""
    command = [sys.executable, __file__, "--one", name, "--threads", str(args.threads), "--seconds", str(args.seconds)]
    command += ["--lock", str(args.lock)] if args.lock else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return Row(name, f"not done in {args.limit} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return Row(**json.loads(lines[-1]))
    reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Row(name, f"failed ({done.returncode}): {reason[:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="")
    parser.add_argument("--out", type=Path, default=Path("tvm_zoo.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="0: measure nothing")
    parser.add_argument("--limit", type=int, default=600, help="seconds for each model")
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--again", action="store_true", help="also what is in the table already")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    if args.one:
        print(json.dumps(asdict(measure(args.one, args))))
        return
    from lwc.models import zoo

    rows = {row["model"]: row for row in json.loads(args.out.read_text())} if args.out.exists() else {}
    print(HEADER, flush=True)
    for name in args.models.split(",") if args.models else zoo.names():
        if args.again or name not in rows:
            rows[name] = asdict(in_own_process(name, args))
            args.out.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
        print(Row(**rows[name]).line(), flush=True)


if __name__ == "__main__":
    main()
