"""Static int8 everywhere: lwc's ranges and placement against onnxruntime's minmax and entropy, fidelity at speed.

    python tests/benchmarks/int8_fidelity.py [--models a,b] [--calibration 32] [--test 32]

No budget and no search: every site that can be int8 is, so that nothing but ranges, rounding and placement differ.
SQNR in dB of all outputs together, on test samples; speed-up over the input model, alternating blocks.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers import ort as peers
from zoo_speed import Plain

from lwc.compiler.benches import workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.progress import Silent
from lwc.compiler.measure import latency, representative, sqnr_db
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.numbers import Numbers
from lwc.models import zoo


def lwc_session(source: Path, samples: Any) -> Any:
    """Every site static int8, ranges as `lwc compile` chooses them."""
    options = CompileOptions(calib=samples, no_cache=True)
    prepared = prepare(Model.open(source), options, Timings(Silent()))
    bench = workbench(prepared)
    decider = Decider(bench, Numbers(bench, prepared.calibration), Wanted("int8"))
    decider.find_sites()
    decider.calibrate()
    model = prepared.apply(prepared.clean, Plan(decider.static_choices(), decider.numbers.ranges))
    return prepared.backend.session(model, prepared.target)


def sqnr(reference: Any, session: Any, samples: Any) -> float:
    """All numeric outputs of all samples together."""
    signal = noise = 0.0
    for sample in samples:
        want, got = reference.run(sample), session.run(sample)
        for name, array in want.items():
            if np.issubdtype(array.dtype, np.floating) and array.shape == got[name].shape:
                signal += float(np.square(array, dtype=np.float64).sum())
                noise += float(np.square(array.astype(np.float64) - got[name]).sum())
    return sqnr_db(signal, noise)


def compare(name: str, args: argparse.Namespace) -> dict[str, tuple[float, float] | str]:
    """(SQNR dB, speed-up) of each quantizer, or why it failed."""
    source = zoo.path(name)
    samples = list(zoo.samples(name, args.calibration, seed=1))
    test = list(zoo.samples(name, args.test, seed=2, split="test"))
    floating = Plain(peers.session(source))
    feeds = representative(test, floating.names)
    results: dict[str, tuple[float, float] | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        makers = {"lwc": lambda out: lwc_session(source, samples)} | {
            method: lambda out, method=method: Plain(
                peers.session(peers.static(source, out, samples[: args.peer_samples], method))
            )
            for method in args.methods.split(",")
        }
        for label, make in makers.items():
            try:
                session = make(Path(folder) / f"{label}.onnx")
                before, after = latency([floating, session], feeds, seconds=1.5)
                results[label] = (sqnr(floating, session, test), before.median_ms / after.median_ms)
            except Exception as error:
                results[label] = f"{type(error).__name__}: {str(error)[:80]}"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(zoo.names()))
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--peer-samples", type=int, default=16)
    parser.add_argument("--test", type=int, default=32)
    parser.add_argument("--methods", default="minmax,entropy")
    args = parser.parse_args()
    labels = ["lwc", *args.methods.split(",")]
    print("| model | " + " | ".join(f"{label} dB, x" for label in labels) + " |\n|" + "---|" * (len(labels) + 1))
    for name in args.models.split(","):
        results = compare(name, args)
        cells = [r if isinstance(r, str) else f"{r[0]:.1f}, {r[1]:.2f}" for r in (results[label] for label in labels)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
