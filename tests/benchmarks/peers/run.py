"""A heavy peer on the zoo's tasks, in an environment of its own that this makes (build/peers/PEER).

    python tests/benchmarks/peers/run.py nncf [--models mnist-cnn,ppocr-cls] [--calibration 64] [--test 128] [--out F]
    python tests/benchmarks/peers/run.py quark [...]

The environment comes from PEER.txt beside this file. The peer gets the same calibration samples as lwc; what it makes
runs on its own runtime, in alternating blocks with that runtime's float model, and is scored here with the true
labels of the same test samples. Times compare within a peer; against lwc, use against_peers.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from exchange import JOB, RESULT, load_samples, save_samples

from lwc.models import zoo

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[2] / "build" / "peers"
PEERS = ("nncf", "quark")
BUDGET = 0.01


def environment(peer: str) -> Path:
    """The Python of the peer's environment, made anew when its requirements changed."""
    requirements = HERE / f"{peer}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        stamp.write_text(wanted)
    return python


def measure(peer: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """{label: {score, drop, ms, build_s} or {failed}} of each of the peer's variants; the first is its float."""
    source = zoo.path(name)
    test = list(zoo.samples(name, args.test, seed=2, split="test"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = input_names(source)
        calibration = zoo.samples(name, args.calibration, seed=1)
        save_samples(folder / "calibration.npz", unlabelled(calibration, inputs))
        save_samples(folder / "test.npz", unlabelled(test, inputs))
        sizes = sorted((sum(sample[n].size for n in inputs), index) for index, sample in enumerate(test))
        job = {"model": str(source), "threads": args.threads, "seconds": args.seconds, "variants": args.variants,
               "median": sizes[(len(sizes) - 1) // 2][1]}  # fmt: skip
        (folder / JOB).write_text(json.dumps(job))
        log = folder / "log"
        with log.open("wb") as written:
            command = [environment(peer), HERE / f"{peer}_worker.py", folder]
            done = subprocess.run(
                command, stdout=written, stderr=subprocess.STDOUT, timeout=args.timeout, check=False, cwd=folder
            )
        if not (folder / RESULT).is_file():
            tail = log.read_text(errors="replace").strip().splitlines()[-1:]
            return {peer: {"failed": f"exit {done.returncode}: {' '.join(tail)[:200]}"}}
        result: dict[str, Any] = json.loads((folder / RESULT).read_text())
        if not result:
            return {peer: {"failed": f"it has no variant of these names: {', '.join(args.variants)}"}}
        for label, row in result.items():
            if "failed" not in row:
                row["score"] = scored(name, folder / f"{label}.npz", test)
    floating = next(iter(result.values())).get("score")
    for row in result.values():
        if "score" in row and floating is not None:
            row["drop"] = floating - row["score"]
    return result


def input_names(source: Path) -> list[str]:
    graph = onnx.load(source, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]


def unlabelled(samples: Any, inputs: list[str]) -> Iterator[dict[str, Any]]:
    return ({name: sample[name] for name in inputs} for sample in samples)


def scored(name: str, outputs: Path, test: list[dict[str, Any]]) -> float:
    """The task's score of outputs that the peer left, in the order of the test samples."""
    given = iter(load_samples(outputs))
    return zoo.score(name, lambda _: next(given), iter(test))


def rows(name: str, result: dict[str, Any]) -> Iterator[str]:
    """Lines of the Markdown table."""
    floating = next(iter(result.values())).get("ms")
    for label, row in result.items():
        if "failed" in row:
            yield f"| {name} | {label} | {row['failed']} |||||"
            continue
        held = "yes" if row["drop"] <= BUDGET else "no"
        speedup = f"{floating / row['ms']:.2f}" if floating else "-"
        yield (
            f"| {name} | {label} | {row['score']:.4f} | {held} | {row['ms']:.3f} | {speedup} | {row['build_s']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--models", default=",".join(name for name in zoo.names() if zoo.get(name).task))
    parser.add_argument("--variants", nargs="*", default=[], metavar="LABEL", help="default: all; float first")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one model")
    parser.add_argument("--out", type=Path, help="JSON; models that it already has are not run again")
    args = parser.parse_args()
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    print("| model | variant | score | holds 0.01 | ms | over float | build s |\n|" + "---|" * 7)
    for name in args.models.split(","):
        if name not in found:
            try:
                found[name] = measure(args.peer, name, args)
            except subprocess.TimeoutExpired:
                found[name] = {args.peer: {"failed": f"not done in {args.timeout:.0f} s"}}
            if args.out:
                args.out.write_text(json.dumps(found, indent=1))
        print("\n".join(rows(name, found[name])), flush=True)


if __name__ == "__main__":
    main()
