"""The onnx package's node and model cases on ONNX Runtime, on TVM alone, and on TVM with our lowering.

    python tests/benchmarks/tvm_conformance.py [--runners ort,tvm,lwc] [--filter NAME] [--failed] [--again]
        [--seconds 150] [--limit 20] [--out tvm_conformance.json]

A case passes where the outputs are the expected ones at the case's own tolerance, as in ONNX's backend test; of random
operators, where types and shapes are. Every case runs in a process of its own. Results are kept in --out, and what is
known is not run again, so that a run of --seconds goes on where the last one stopped.

ort: ONNX Runtime    tvm: tvm.relax.frontend.onnx and TVM's default pipeline    lwc: our importer and our pipeline
fixed: as lwc, but inputs that say a size, a shape or axes are constants, as they are in models (see SIZES)
imported: as fixed, with TVM's default pipeline: what fails here, the importer does
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import signal
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TVM_NUM_THREADS", "1")
os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"  # ONNX Runtime may try the opset that the onnx package works on

import numpy as np
import onnx
import onnx.numpy_helper
import tvm
from onnx.backend.test import loader
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import compile_module
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

DATA = Path(loader.__file__).parent.parent / "data"
NEWEST_IR = 11
RANDOM = ("bernoulli", "dropout", "multinomial", "randomnormal", "randomuniform")
# Operators' formal inputs that decide how large the result is; in models they are constants.
SIZES = frozenset(
    {"K", "M", "axes", "axis", "block_shape", "cond", "condition", "delta", "depth", "dft_length"}
    | {"ends", "frame_length", "frame_step", "image_shape", "iou_threshold", "k", "limit"}
    | {"lower_edge_hertz", "max_output_boxes_per_class", "num_mel_bins", "output_shape", "pads", "ratio"}
    | {"repeats", "roi", "sample_rate", "scales", "score_threshold", "shape", "size", "sizes", "split"}
    | {"start", "starts", "steps", "training_mode", "upper_edge_hertz", "ConstantOfShape.input"}
)


@dataclass(frozen=True)
class Case:
    """A model with one set of inputs and the outputs to expect (None: those of ONNX Runtime).

    sizes: names of inputs that say sizes, see SIZES
    """

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    expected: list[Any] | None
    rtol: float
    atol: float
    sizes: frozenset[str] = frozenset()


Runner = Callable[[Case], Sequence[Any]]


def cases() -> Iterator[Case]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        sizes: dict[str, frozenset[str]] = {}
        for found in loader.load_model_tests(kind="node"):
            inputs, outputs = found.data_sets[0]
            case = _case(f"node/{found.name}", found.model, inputs, outputs, found.rtol, found.atol)
            whole = sizes.get(found.name.removesuffix("_expanded"), frozenset())  # the operator that was expanded
            sizes[found.name] = case.sizes | whole
            yield replace(case, sizes=sizes[found.name])
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((DATA / kind).iterdir()):
            model = onnx.load(folder / "model.onnx")
            data = folder / "test_data_set_0"
            inputs = [_read(data / f"input_{k}.pb", v.type) for k, v in enumerate(_inputs(model))]
            outputs = [_read(data / f"output_{k}.pb", v.type) for k, v in enumerate(model.graph.output)]
            yield _case(f"{kind}/{folder.name}", model, inputs, outputs, 1e-3, 1e-7)
    for path in sorted((DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        rng = np.random.default_rng(0)
        shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in _inputs(model)]
        yield _case(f"light/{path.stem}", model, [rng.standard_normal(s, np.float32) for s in shapes], None, 1e-3, 1e-5)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _case(name: str, proto: onnx.ModelProto, inputs: Any, outputs: Any, rtol: float, atol: float) -> Case:
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    model.ir_version = min(model.ir_version, NEWEST_IR)
    feeds = {v.name: _array(item, v.type) for v, item in zip(_inputs(model), inputs, strict=False)}
    expected = None
    if outputs is not None:
        expected = [_array(item, v.type) for v, item in zip(model.graph.output, outputs, strict=False)]
    return Case(name, model, feeds, expected, rtol, atol, _sizes(model))


def _array(item: Any, kind: onnx.TypeProto) -> Any:
    """Cases hold scalars and types unknown to NumPy in forms of their own."""
    if isinstance(item, onnx.TensorProto):
        return onnx.numpy_helper.to_array(item)
    if isinstance(item, (int, float, np.generic)):
        return np.asarray(item, onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
    return item


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))


def run_ort(case: Case) -> Sequence[Any]:
    from lwc.compiler.testing import run_onnxruntime

    return run_onnxruntime(case.model, case.feeds)


def run_tvm(case: Case) -> Sequence[Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        module = from_onnx(case.model, keep_params_in_input=False)
    return _on_machine(tvm.compile(module, tvm.target.Target(Machine.of(host()).llvm())), case)


def run_lwc(case: Case) -> Sequence[Any]:
    return _on_machine(compile_module(import_model(Model.from_proto(case.model)), Machine.of(host())), case)


def run_imported(case: Case) -> Sequence[Any]:
    target = tvm.target.Target(Machine.of(host()).llvm())
    return _on_machine(tvm.compile(import_model(Model.from_proto(_fixed(case).model)), target), _fixed(case))


def run_fixed(case: Case) -> Sequence[Any]:
    return run_lwc(_fixed(case))


def _fixed(case: Case) -> Case:
    fixed = {name for name in case.sizes if isinstance(case.feeds.get(name), np.ndarray)}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [value for value in model.graph.input if value.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(case.feeds[name], name) for name in sorted(fixed))
    return replace(case, model=model, feeds={name: array for name, array in case.feeds.items() if name not in fixed})


def _sizes(model: onnx.ModelProto) -> frozenset[str]:
    named = [(node, *pair) for node in model.graph.node for pair in _formal_inputs(node, model)]
    return frozenset(
        name for node, name, formal in named if formal in SIZES or f"{node.op_type}.{formal}" in SIZES
    )


def _formal_inputs(node: onnx.NodeProto, model: onnx.ModelProto) -> list[tuple[str, str]]:
    version = next((entry.version for entry in model.opset_import if entry.domain == node.domain), 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return []
    return [(name, formal.name) for name, formal in zip(node.input, schema.inputs, strict=False)]


def _on_machine(executable: Any, case: Case) -> list[Any]:
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
    "lwc": run_lwc,
    "fixed": run_fixed,
    "imported": run_imported,
}


def outcome(case: Case, runner: str) -> str:
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


def _difference(expected: Any, found: Any, case: Case) -> str:
    if isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            return "wrong number of outputs"
        return next((r for a, b in zip(expected, found, strict=True) if (r := _difference(a, b, case))), "")
    a, b = np.asarray(expected), np.asarray(found)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"wrong type: {b.dtype}{list(b.shape)} for {a.dtype}{list(a.shape)}"
    if any(word in case.name for word in RANDOM):
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


def isolated(case: Case, runner: str, limit: int) -> str:
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
    for case in cases():
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
            if runner == "fixed" and results.get("lwc") == "" and not args.again:
                results[runner] = ""
                continue
            results[runner] = isolated(case, runner, args.limit)
    return left


def _report(args: argparse.Namespace, runners: list[str], known: dict[str, dict[str, str]]) -> None:
    chosen = {name: found for name, found in known.items() if re.search(args.filter, name)}
    asked = {name: found for name, found in chosen.items() if found.get("ort") == ""}
    for runner in runners:
        base = chosen if runner == "ort" else asked
        passed = sum(found.get(runner) == "" for found in base.values())
        tried = sum(runner in found for found in base.values())
        print(f"{runner}: {passed} of {tried} pass ({100 * passed / max(tried, 1):.1f} %)")
        if runner in ("ort", "tvm") and not args.names:
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
