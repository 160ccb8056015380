"""Nodes left by lwc, onnxsim and onnxslim on the models of the zoo, and whether the results still agree.

    python tests/benchmarks/node_counts.py [--speed] [NAME ...]

A node is a node of the main graph, Constant nodes included. `differs`: an output moved beyond the tolerance of its
type, or the result does not load; said of whichever tool made it. --speed adds milliseconds per run of the original
and of lwc's result, medians of alternating blocks on one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime as ort
import onnxsim
import onnxslim

from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import host
from lwc.compiler.testing import DEEP_FP32, disagreement, draw_feeds
from lwc.models import zoo
from lwc.passes import clean

BLOCKS, BLOCK_S = 12, 0.15


@dataclass(frozen=True)
class Result:
    """What one tool made of one model."""

    nodes: int | None
    seconds: float
    verdict: str


def main(arguments: list[str]) -> None:
    speed = "--speed" in arguments
    names = [name for name in arguments if not name.startswith("--")] or list(zoo.names())
    header = f"{'model':22s} {'original':>8s} {'lwc':>6s} {'onnxsim':>8s} {'onnxslim':>8s}   notes"
    print(header)
    held = 0
    for name in names:
        original = onnx.load(zoo.path(name))
        feeds = sample(name, original)
        expected = run(original, feeds)
        results = [_measure(tool, name, original, feeds, expected) for tool in (by_lwc, by_onnxsim, by_onnxslim)]
        counts = [result.nodes for result in results]
        peers = [count for count in counts[1:] if count is not None]
        held += counts[0] is not None and results[0].verdict == "" and all(counts[0] <= peer for peer in peers)
        notes = "; ".join(
            f"{tool} {r.verdict}" for tool, r in zip(("lwc", "onnxsim", "onnxslim"), results, strict=True) if r.verdict
        )
        cells = " ".join(f"{'-' if c is None else c:>{w}}" for c, w in zip(counts, (6, 8, 8), strict=True))
        extra = _speed(original, by_lwc(name, original), feeds) if speed else ""
        print(f"{name:22s} {len(original.graph.node):>8d} {cells}   {extra}{notes}", flush=True)
    print(f"equal or fewer than both: {held} of {len(names)}")


def sample(name: str, model: onnx.ModelProto) -> Mapping[str, Any]:
    """One of the zoo's own, or random inputs where a task needs a package that is not here."""
    try:
        return next(zoo.samples(name, 1))
    except LwcError:
        return draw_feeds(ir.from_proto(model))


def by_lwc(name: str, original: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(original)
    clean(host()).run(model, PassContext(host()))
    made = ir.to_proto(model)
    # With annotated values ONNX Runtime 1.31 fuses SkipLayerNormalization, which is slower than its parts.
    del made.graph.value_info[:]
    return made


def by_onnxsim(name: str, original: onnx.ModelProto) -> onnx.ModelProto:
    simplified, _ = onnxsim.simplify(original)
    return simplified


def by_onnxslim(name: str, original: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(original)
    return onnxslim.slim(copy)


def _measure(
    tool: Callable[[str, onnx.ModelProto], onnx.ModelProto],
    name: str,
    original: onnx.ModelProto,
    feeds: Mapping[str, Any],
    expected: list[Any],
) -> Result:
    start = time.perf_counter()
    try:
        made = tool(name, original)
    except Exception as error:  # other people's tools fail in their own ways
        return Result(None, time.perf_counter() - start, f"fails: {type(error).__name__}: {str(error)[:80]}")
    seconds = time.perf_counter() - start
    try:
        verdict = disagreement(expected, run(made, feeds), DEEP_FP32)
    except Exception as error:
        verdict = f"does not load: {str(error)[:80]}"
    return Result(len(made.graph.node), seconds, f"differs: {verdict}" if verdict else "")


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    made = session(model)
    return made.run(None, {value.name: feeds[value.name] for value in made.get_inputs()})


def _speed(original: onnx.ModelProto, made: onnx.ModelProto, feeds: Mapping[str, Any]) -> str:
    sessions = [session(original), session(made)]
    taken = [{value.name: feeds[value.name] for value in s.get_inputs()} for s in sessions]
    times: list[list[float]] = [[], []]
    for _ in range(BLOCKS):
        for which, candidate in enumerate(sessions):
            times[which] += _block(candidate, taken[which])
    before, after = (float(np.median(t)) for t in times)
    return f"{before:.3f} -> {after:.3f} ms, {before / after:.3f}x  "


def _block(candidate: ort.InferenceSession, feeds: Mapping[str, Any]) -> list[float]:
    """Runs for BLOCK_S seconds; the first two of a block are warm-up."""
    found: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while time.perf_counter() < end or len(found) < 4:
        start = time.perf_counter()
        candidate.run(None, feeds)
        found.append(1e3 * (time.perf_counter() - start))
    return found[2:]


if __name__ == "__main__":
    main(sys.argv[1:])
