"""lwc against every peer on the zoo's tasks: one process, alternating blocks, true labels.

    python tests/benchmarks/against_peers.py [--models a,b] [--backends ort,auto] [--peers onnxruntime,openvino]
                                             [--out F.json] [--work FOLDER]

Needs one environment with onnxruntime, onnxsim, openvino, nncf and lwc. Peers: onnxruntime static int8 (minmax,
entropy, percentile), dynamic int8, onnxsim then static; OpenVINO fp32 and bf16; NNCF int8 on OpenVINO, the rest in
fp32 or bf16. Each is built in a process of its own and kept in --work, lwc's artifacts too; --out keeps measured
models. Both make a run resumable: what is there is not made again. A peer holds the budget when its score on the
test samples, which nothing else saw, is within 0.01 of the float model's. With --backends openvino-int8 or
openvino-bf16 a format of lwc's stands beside NNCF's on one runtime, whatever it loses.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from candidates import BUDGET, FAMILIES, FLOAT, LWC, Candidate, Context, Run, Sample, candidates
from peers import exchange, ort
from rounds import times

from lwc.compiler.core.target import host
from lwc.compiler.measure import representative
from lwc.models import zoo

ROUNDS = 5
FEWER = 4  # calibration samples are divided by this when a peer's process dies, as of memory

Row = dict[str, Any]



@dataclass(frozen=True)
class _Runner:
    """A run behind what lwc's latency measurement takes."""

    run: Run


def _opened(candidate: Candidate, context: Context, test: list[Sample]) -> _Runner:
    return _Runner(candidate.open(context, test))


def built(candidate: Candidate, context: Context, args: argparse.Namespace) -> Row:
    """{build_s} or {failed}: builds in a process of its own, unless the work folder remembers how that went.

    Candidates of one file share its building.
    """
    memory = context.folder / f"{candidate.file}.json"
    if not candidate.file:
        return {"build_s": 0.0}
    if memory.is_file():
        return dict(json.loads(memory.read_text()))
    row: Row = {"failed": "not built"}
    for count in (args.peer_samples, max(1, args.peer_samples // FEWER)):
        target = (candidate.label, context, count, args)
        child = multiprocessing.get_context("spawn").Process(target=_build_child, args=target)
        child.start()
        child.join(args.build_timeout)
        if child.is_alive():
            child.kill()
            child.join()
            row = {"failed": f"not built in {args.build_timeout:.0f} s"}
            break
        if memory.is_file():
            return dict(json.loads(memory.read_text()))
        row = {"failed": f"its process ended with {child.exitcode}"}
    memory.write_text(json.dumps(row))
    return row


def _build_child(label: str, context: Context, count: int, args: argparse.Namespace) -> None:
    candidate = next(one for one in candidates(args) if one.label == label)
    with (context.folder / f"{candidate.file}.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    samples = [] if candidate.family == LWC else exchange.load_samples(context.folder / "calibration.npz")[:count]
    start = time.perf_counter()
    try:
        candidate.build(context, samples)
        row: Row = {"build_s": time.perf_counter() - start}
    except Exception as error:
        row = {"failed": exchange.reason(error)}
    (context.folder / f"{candidate.file}.json").write_text(json.dumps(row))


def measure(name: str, args: argparse.Namespace) -> dict[str, Row]:
    """{label: {family, ms, score, drop, build_s} or {family, failed}} for one model."""
    folder = args.work / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "calibration.npz").is_file():
        exchange.save_samples(folder / "calibration.npz", zoo.samples(name, args.peer_samples, seed=1))
    test = list(zoo.samples(name, args.test, seed=2, split="test"))
    context = Context(name, zoo.path(name), folder, args.threads, args.calibration)
    result: dict[str, Row] = {}
    opens: dict[str, Callable[[], _Runner]] = {}
    for candidate in candidates(args):
        row = result[candidate.label] = {"family": candidate.family, **built(candidate, context, args)}
        if "failed" in row:
            continue
        try:
            row["score"] = zoo.score(name, candidate.open(context, test), iter(test))
            opens[candidate.label] = partial(_opened, candidate, context, test)
        except Exception as error:
            row["failed"] = exchange.reason(error)
    feeds = representative(test, [port.name for port in ort.session(context.source, 1).get_inputs()])
    for label, ms in zip(opens, times([*opens.values()], feeds, args.seconds, ROUNDS), strict=True):
        result[label] |= {"ms": ms, "drop": result[FLOAT]["score"] - result[label]["score"]}
    return result


def best_peer(result: Mapping[str, Row], families: tuple[str, ...]) -> str:
    """Fastest peer of these families that holds the budget; the float model where none does.

    With FLOAT among the families lwc has to beat the model as it came, too, where all its peers are slower.
    """
    held = [label for label, row in result.items() if row["family"] in families and row.get("drop", 1.0) <= BUDGET]
    return min(held, key=lambda label: float(result[label]["ms"]), default=FLOAT)


def lines(name: str, result: Mapping[str, Row]) -> Iterator[str]:
    """Every candidate's numbers, as lines of a Markdown table."""
    for label, row in result.items():
        if "failed" in row:
            yield f"| {name} | {label} | {row['failed']} |||||"
        else:
            held = "yes" if row["drop"] <= BUDGET else "no"
            ratio = result[FLOAT]["ms"] / row["ms"]
            yield (
                f"| {name} | {label} | {row['score']:.4f} | {held} | {row['ms']:.3f} | {ratio:.2f} "
                f"| {row['build_s']:.1f} |"
            )


def figures(found: Mapping[str, Mapping[str, Row]], label: str, families: tuple[str, ...]) -> Iterator[str]:
    """Per task the best peer that holds and lwc's speed over it; then mean and least, over the tasks lwc holds."""
    ratios: list[float] = []
    yield f"\n{label} against {', '.join(families)}\n"
    yield "| task | best that holds | lwc is faster by | lwc drop |\n|---|---|---|---|"
    for name, result in found.items():
        row = result.get(label, {"failed": "not measured"})
        peer = best_peer(result, families)
        if "failed" in row:
            yield f"| {name} | {peer} | {row['failed']} | |"
            continue
        ratios.append(result[peer]["ms"] / row["ms"])
        broken = "" if row["drop"] <= BUDGET else " BREAKS"
        yield f"| {name} | {peer} | {ratios[-1]:.3f} | {row['drop']:+.4f}{broken} |"
    if ratios:
        mean = float(np.exp(np.mean(np.log(ratios))))
        yield f"\ngeometric mean {mean:.3f}, least {min(ratios):.3f}, over {len(ratios)} of {len(found)} tasks"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(name for name in zoo.names() if zoo.get(name).task))
    parser.add_argument("--backends", default="ort,auto", help="an artifact of lwc for each")
    parser.add_argument("--peers", default=",".join(FAMILIES), help="families of peers to measure")
    parser.add_argument("--calibration", type=int, default=64, help="samples that lwc gets")
    parser.add_argument("--peer-samples", type=int, default=64, help="samples that the peers get")
    parser.add_argument("--test", type=int, default=256)
    parser.add_argument("--threads", type=int, default=host().threads)
    parser.add_argument("--seconds", type=float, default=3.0, help="of latency measurement for each candidate")
    parser.add_argument("--build-timeout", type=float, default=1800.0, help="seconds for one candidate")
    parser.add_argument("--work", type=Path, default=Path("build/against_peers"), help="what was built is kept here")
    parser.add_argument("--rebuild-lwc", action="store_true", help="compile again, and measure what --out has again")
    parser.add_argument("--out", type=Path, help="JSON of the models measured so far")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    found: dict[str, dict[str, Row]] = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    print(f"{host().processor}, {args.threads} threads")
    print("| task | candidate | score | holds 0.01 | ms | over float | build s |\n|" + "---|" * 7)
    for name in args.models.split(","):
        if args.rebuild_lwc:
            found.pop(name, None)
            for file in (args.work / name).glob(f"{LWC}*"):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        if found.get(name, {}).keys() != {candidate.label for candidate in candidates(args)}:
            found[name] = measure(name, args)
            if args.out:
                args.out.write_text(json.dumps(found, indent=1))
        print("\n".join(lines(name, found[name])), flush=True)
    for backend in args.backends.split(","):
        asked = tuple(args.peers.split(","))
        for families in dict.fromkeys((asked[:1], (FLOAT, *asked[:1]), asked, (FLOAT, *asked))):
            print("\n".join(figures(found, f"{LWC}{backend}", families)))


if __name__ == "__main__":
    main()
