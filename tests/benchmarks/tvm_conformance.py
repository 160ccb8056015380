"""The onnx package's node and model cases on ONNX Runtime, on TVM alone, with our lowering, and on both in turns.

    python tests/benchmarks/tvm_conformance.py [--runners ort,tvm,lwc] [--filter NAME] [--failed] [--again]
        [--seconds 150] [--limit 20] [--out tvm_conformance.json]

A case passes where the outputs are the expected ones at the case's own tolerance, as in ONNX's backend test; of random
operators, where types and shapes are. Every case runs in a process of its own. Results are kept in --out, and what is
known is not run again, so that a run of --seconds goes on where the last one stopped. Of cases that fail it is counted
in how many the importer says why: there another runtime can step in.

ort: ONNX Runtime    tvm: tvm.relax.frontend.onnx and TVM's default pipeline    lwc: our importer and our pipeline
fixed: as lwc, but inputs that say a size, a shape or axes are constants, as they are in models (see SIZES)
imported: as fixed, with TVM's default pipeline: what fails here, the importer does
stock: as tvm, with the constants of fixed
hybrid: as lwc compile --backend tvm: built into a folder and loaded from it, what TVM refuses on ONNX Runtime
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import signal
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TVM_NUM_THREADS", "1")
os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"  # ONNX Runtime may try the opset that the onnx package works on

import numpy as np
import onnx
import onnx.numpy_helper
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from lwc.backends.tvm.hybrid import Hybrid
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import compile_module
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.onnx_cases import OnnxCase, onnx_cases
from lwc.compiler.testing import run_onnxruntime

# Operators' formal inputs that decide how large the result is; in models they are constants.
SIZES = frozenset(
    {"K", "M", "axes", "axis", "block_shape", "cond", "condition", "delta", "depth", "dft_length"}
    | {"ends", "frame_length", "frame_step", "image_shape", "iou_threshold", "k", "limit"}
    | {"lower_edge_hertz", "max_output_boxes_per_class", "num_mel_bins", "output_shape", "pads", "ratio"}
    | {"repeats", "roi", "sample_rate", "scales", "score_threshold", "shape", "size", "sizes", "split"}
    | {"start", "starts", "steps", "training_mode", "upper_edge_hertz", "ConstantOfShape.input"}
)


Runner = Callable[[OnnxCase], Sequence[Any]]


def run_ort(case: OnnxCase) -> Sequence[Any]:
    return run_onnxruntime(case.model, case.feeds)


def run_tvm(case: OnnxCase) -> Sequence[Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        module = from_onnx(case.model, keep_params_in_input=False)
    return _on_machine(tvm.compile(module, _target()), case)


def run_imported(case: OnnxCase) -> Sequence[Any]:
    return _on_machine(tvm.compile(import_model(Model.from_proto(case.model)), _target()), case)


def run_lwc(case: OnnxCase) -> Sequence[Any]:
    return _on_machine(compile_module(import_model(Model.from_proto(case.model)), Machine.of(host())), case)


def run_hybrid(case: OnnxCase) -> Sequence[Any]:
    shapes = {name: array.shape for name, array in case.feeds.items() if isinstance(array, np.ndarray)}
    with tempfile.TemporaryDirectory() as folder:
        Hybrid().build(Model.from_proto(case.model), host(), BuildOptions(Path(folder), shapes=[shapes]))
        return list(Hybrid().load(Path(folder), host()).run(case.feeds).values())


def _target() -> tvm.target.Target:
    return tvm.target.Target(Machine.of(host()).llvm())


def _on_machine(executable: Any, case: OnnxCase) -> list[Any]:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    results = machine["main"](*(_given(item) for item in case.feeds.values()))
    return [_taken(results)] if len(case.model.graph.output) == 1 else [_taken(item) for item in results]


def _given(item: Any) -> Any:
    return [_given(part) for part in item] if isinstance(item, list) else tvm.runtime.tensor(np.asarray(item))


def _taken(item: Any) -> Any:
    if hasattr(item, "numpy"):
        return item.numpy()
    return np.asarray(list(item), np.int64) if isinstance(item, tvm.runtime.ShapeTuple) else [_taken(x) for x in item]


RUNNERS: dict[str, Runner] = {
    "ort": run_ort,
    "tvm": run_tvm,
    "stock": run_tvm,
    "lwc": run_lwc,
    "fixed": run_lwc,
    "imported": run_imported,
    "hybrid": run_hybrid,
}
HARDER = {"fixed": "lwc", "stock": "tvm"}  # runner -> the same on cases as they are
WITH_CONSTANTS = ("fixed", "imported", "stock")


def sized_cases() -> Iterator[tuple[OnnxCase, OnnxCase]]:
    """Each case as it is, and with constants where it says sizes; an expanded operator's are those of the operator."""
    sizes: dict[str, frozenset[str]] = {}
    for case in onnx_cases():
        sizes[case.name] = _sizes(case.model) | sizes.get(case.name.removesuffix("_expanded"), frozenset())
        yield case, _fixed(case, sizes[case.name])


def _fixed(case: OnnxCase, sizes: frozenset[str]) -> OnnxCase:
    fixed = {name for name in sizes if isinstance(case.feeds.get(name), np.ndarray)}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [value for value in model.graph.input if value.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(case.feeds[name], name) for name in sorted(fixed))
    return replace(case, model=model, feeds={name: array for name, array in case.feeds.items() if name not in fixed})


def _sizes(model: onnx.ModelProto) -> frozenset[str]:
    named = [(node, *pair) for node in model.graph.node for pair in _formal_inputs(node, model)]
    return frozenset(name for node, name, formal in named if formal in SIZES or f"{node.op_type}.{formal}" in SIZES)


def _formal_inputs(node: onnx.NodeProto, model: onnx.ModelProto) -> list[tuple[str, str]]:
    version = next((entry.version for entry in model.opset_import if entry.domain == node.domain), 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return []
    return [(name, formal.name) for name, formal in zip(node.input, schema.inputs, strict=False)]


def outcome(case: OnnxCase, runner: str) -> str:
    """Why the case fails; empty when it passes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = RUNNERS[runner](case)
    except Exception as error:
        return f"{type(error).__name__}: {_message(error)}"
    expected = case.expected if case.expected is not None or runner == "ort" else run_ort(case)
    return "" if expected is None else _difference(list(expected), list(found), case)


def _message(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [""])[0][:240]


def _difference(expected: Any, found: Any, case: OnnxCase) -> str:
    if isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            return "wrong number of outputs"
        return next((r for a, b in zip(expected, found, strict=True) if (r := _difference(a, b, case))), "")
    a, b = np.asarray(expected), np.asarray(found)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"wrong type: {b.dtype}{list(b.shape)} for {a.dtype}{list(a.shape)}"
    if case.is_random:
        return ""
    if a.dtype.kind in "OUS":
        return "" if np.array_equal(a, b) else "wrong strings"
    if a.dtype.kind not in "biufc":
        a, b = a.astype(np.float32), b.astype(np.float32)
    if np.allclose(b, a, rtol=case.rtol, atol=case.atol, equal_nan=True):
        return ""
    with np.errstate(all="ignore"):
        error = np.abs(a.astype(np.complex128) - b.astype(np.complex128))
        beyond = int((error > case.atol + case.rtol * np.abs(a)).sum())
    return f"wrong values: {beyond} of {a.size}, worst {np.nanmax(error)}"


def isolated(case: OnnxCase, runner: str, limit: int) -> str:
    """The outcome from a forked process, so that a crash or an endless loop takes nothing else along."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(limit)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.write(writer, b"=" + outcome(case, runner).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if said:
        return said[1:]
    killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return f"over {limit} s" if killer == signal.SIGALRM else f"crash: signal {killer}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", default="ort,tvm,lwc,fixed", help="comma-separated")
    parser.add_argument("--filter", default="", help="regular expression that a case's name must contain")
    parser.add_argument("--failed", action="store_true", help="run again what failed")
    parser.add_argument("--again", action="store_true", help="run again what is known")
    parser.add_argument("--seconds", type=float, default=150, help="stop after this long")
    parser.add_argument("--limit", type=int, default=20, help="seconds for one case")
    parser.add_argument("--names", action="store_true", help="name every failing case")
    parser.add_argument("--out", type=Path, default=Path("tvm_conformance.json"))
    args = parser.parse_args()
    known: dict[str, dict[str, str]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    runners = args.runners.split(",")
    left = _run(args, runners, known)
    args.out.write_text(json.dumps(known, indent=1))
    _report(args, runners, known)
    if left:
        print(f"{left} runs are left: start it again.")


def _run(args: argparse.Namespace, runners: list[str], known: dict[str, dict[str, str]]) -> int:
    start, left = time.monotonic(), 0
    for case, fixed in sized_cases():
        if not re.search(args.filter, case.name):
            continue
        results = known.setdefault(case.name, {})
        for runner in runners:
            wanted = runner not in results or args.again or (args.failed and bool(results[runner]))
            if not wanted or (runner != "ort" and results.get("ort", "")):
                continue
            if time.monotonic() - start > args.seconds:
                left += 1
                continue
            if results.get(HARDER.get(runner, "")) == "" and not args.again:
                results[runner] = ""
                continue
            results[runner] = isolated(fixed if runner in WITH_CONSTANTS else case, runner, args.limit)
    return left


def _report(args: argparse.Namespace, runners: list[str], known: dict[str, dict[str, str]]) -> None:
    chosen = {name: found for name, found in known.items() if re.search(args.filter, name)}
    asked = {name: found for name, found in chosen.items() if found.get("ort") == ""}
    for runner in runners:
        base = chosen if runner == "ort" else asked
        passed = sum(found.get(runner) == "" for found in base.values())
        tried = sum(runner in found for found in base.values())
        refused = sum(found.get(runner, "").startswith(UnsupportedOperator.__name__) for found in base.values())
        share = 100 * passed / max(tried, 1)
        print(f"{runner}: {passed} of {tried} pass ({share:.1f} %), {refused} are refused with the reason")
        if runner in ("ort", "tvm", "stock") and not args.names:
            continue
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name, found in base.items():
            if found.get(runner):
                groups[_reason(found[runner])].append(name.removeprefix("node/test_"))
        for reason, names in sorted(groups.items(), key=lambda item: -len(item[1])):
            heads = Counter(re.split(r"[_/]", name)[0] for name in names)
            shown = names if args.names else [f"{head} {count}" for head, count in heads.most_common(8)]
            print(f"  {len(names)} {reason}: {', '.join(shown)}")


def _reason(text: str) -> str:
    """The message without what differs from case to case."""
    return re.sub(r"'[^']*'|\d+(\.\d+)?(e-?\d+)?", "_", text)[:150]


if __name__ == "__main__":
    main()
