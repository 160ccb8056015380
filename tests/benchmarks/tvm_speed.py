"""TVM with our schedules beside ONNX Runtime: latency in alternating rounds with fresh sessions.

    python tests/benchmarks/tvm_speed.py [--models resnet18,mobilenet_v2,minilm-l3] [--formats fp32,bf16,int8]
                                         [--threads 2] [--seconds 4] [--tuned MINUTES] [--database FOLDER]

Columns: milliseconds of ONNX Runtime on the same file, which for bf16 is the float one; TVM's as a ratio to that,
untuned and with what --tuned minutes for each model and format found; seconds to import and compile either; greatest
difference of an output over the greatest output. --database keeps what is found for later calls, for which --tuned 0
measures alone; otherwise each model and format begins with nothing. bf16 is left out where the
processor does not multiply it in tiles; int8 is the file that `lwc compile --precision int8` writes for ONNX Runtime.
Both run with --threads threads, batch 1: ResNet-18 and MobileNetV2 at 224x224 with random weights, and zoo models at
the sizes named in SHAPES. All is compiled before anything is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from command import compiled
from rounds import times

SHAPES: Mapping[str, tuple[int, ...]] = {
    "minilm-l3": (1, 128),
    "ppocr-cls": (1, 3, 48, 192),
    "mnist-cnn": (1, 1, 28, 28),
    "nudenet": (1, 3, 320, 320),
}
STRUCTURES = ("resnet18", "resnet50", "mobilenet_v2")
ROUNDS = 3
SAMPLES = 4  # for ranges; speed does not depend on them


@dataclass(frozen=True)
class Built:
    """A model in one format.  theirs, ours: fresh sessions of ONNX Runtime and of TVM, untuned and perhaps tuned"""

    form: str
    compile_s: Sequence[float]
    theirs: Callable[[], Any]
    ours: Sequence[Callable[[], Any]]


@dataclass(frozen=True)
class Tuning:
    """seconds: for each model and format;  folder: where what is found is kept, a new one for each where None"""

    seconds: float
    folder: Path | None


class OnnxRuntime:
    """A session with as many threads as TVM has."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, dict(feeds)), strict=True))


def fixed_file(name: str, folder: Path) -> Path:
    """The model with all dimensions fixed."""
    from lwc.models import structures, zoo

    path = folder / f"{name}.onnx"
    proto = getattr(structures, name)() if name in STRUCTURES else onnx.load(zoo.path(name))
    for value in proto.graph.input:
        if name in SHAPES:
            for dim, size in zip(value.type.tensor_type.shape.dim, SHAPES[name], strict=True):
                dim.dim_value = size
    del proto.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path


def build(
    name: str, forms: Sequence[str], folder: Path, threads: int, tuning: Tuning | None
) -> tuple[dict[str, np.ndarray], list[Built]]:
    """What to feed the model, and the model in those formats that this machine has."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.machine import Machine
    from lwc.compiler.core.model import Model
    from lwc.compiler.core.target import host

    path, target = fixed_file(name, folder), host().with_threads(threads)
    random = np.random.default_rng(0)
    feeds = {port.name: ones_or_noise(port, random) for port in Signature.of(Model.open(path)).inputs}
    tiles = Machine.of(target).tiles
    return feeds, [
        build_one(form, int8_file(path, folder) if form == "int8" else path, target, tuning)
        for form in forms if form != "bf16" or tiles
    ]  # fmt: skip


def int8_file(path: Path, folder: Path) -> Path:
    """What `lwc compile` makes of the file; random weights would break any budget of accuracy."""
    out = folder / f"{path.stem}.lwc"
    compiled(path, out, "--precision", "int8", "--max-drop", 1, "--samples", SAMPLES)
    return out / "model.onnx"


def build_one(form: str, path: Path, target: Any, tuning: Tuning | None) -> Built:
    """The file compiled for the target, and once more with what tuning finds."""
    from lwc.backends.signature import Signature
    from lwc.compiler.core.float_format import mark_float_format
    from lwc.compiler.core.model import Model

    model = Model.open(path)
    if form == "bf16":
        mark_float_format(model.ir, form)
    targets = [target] if tuning is None else [target, tuned(model, target, tuning, path.parent)]
    seconds, ours = zip(*(program(model, each, Signature.of(model)) for each in targets), strict=True)
    return Built(form, seconds, partial(OnnxRuntime, path, target.threads), ours)


def tuned(model: Any, target: Any, tuning: Tuning, scratch: Path) -> Any:
    """The target with what tuning found in its time."""
    from lwc.backends.tvm.tuning import tune_models
    from lwc.compiler.core.progress import Silent

    found = replace(target, tuned=tuning.folder or Path(tempfile.mkdtemp(dir=scratch)))
    if tuning.seconds:
        tune_models([model], found, tuning.seconds, Silent())
    return found


def program(model: Any, target: Any, signature: Any) -> tuple[float, Callable[[], Any]]:
    """Seconds to import and compile, and what opens sessions."""
    from lwc.backends.tvm.compiled import machine_for
    from lwc.backends.tvm.importer import import_model
    from lwc.backends.tvm.pipeline import compile_module
    from lwc.backends.tvm.session import TvmSession

    begun = time.perf_counter()
    made = compile_module(import_model(model), machine_for(model, target))
    seconds = time.perf_counter() - begun
    return seconds, partial(TvmSession, made, signature.inputs, signature.outputs, model.name)


def ones_or_noise(port: Any, random: np.random.Generator) -> np.ndarray:
    """Noise for floats; ones for indices, which every vocabulary has."""
    if port.dtype.kind == "f":
        return random.normal(size=port.shape).astype(port.dtype)
    return np.ones(port.shape, port.dtype)


def difference(built: Built, feeds: Mapping[str, np.ndarray]) -> float:
    """From ONNX Runtime, over the greatest output."""
    want = built.theirs().run(feeds)
    found = [ours().run(feeds) for ours in built.ours]
    return max(float(np.abs(each[name] - y).max() / np.abs(y).max()) for each in found for name, y in want.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet18,mobilenet_v2,minilm-l3")
    parser.add_argument("--formats", default="fp32,bf16,int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--tuned", type=float)
    parser.add_argument("--database", type=Path)
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    tuning = None if args.tuned is None else Tuning(60 * args.tuned, args.database)
    with tempfile.TemporaryDirectory() as folder:
        forms = args.formats.split(",")
        names = args.models.split(",")
        made = {name: build(name, forms, Path(folder), args.threads, tuning) for name in names}
        kinds = ("untuned",) if tuning is None else ("untuned", "tuned")
        columns = [f"{kind} ratio | compile s" for kind in kinds]
        print(f"| model | format | ONNX Runtime ms | {' | '.join(columns)} | difference |")
        print("|" + "---|" * (4 + 2 * len(kinds)))
        for name, (feeds, formats) in made.items():
            for built in formats:
                theirs, *ours = times([built.theirs, *built.ours], feeds, args.seconds, ROUNDS)
                cells = [f"{ms / theirs:.2f} | {s:.0f}" for ms, s in zip(ours, built.compile_s, strict=True)]
                row = [name, built.form, f"{theirs:.2f}", *cells, f"{difference(built, feeds):.0e}"]
                print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
