"""TVM with our schedules beside ONNX Runtime: latency in alternating rounds with fresh sessions.

    python tests/benchmarks/tvm_speed.py [--models resnet18,mobilenet_v2,minilm-l3] [--formats fp32,bf16,int8]
                                         [--threads 2] [--seconds 4]

Columns: milliseconds of ONNX Runtime on the same file, which for bf16 is the float one; TVM's as a ratio to that;
seconds to import and compile; greatest difference of an output over the greatest output. bf16 is left out where the
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
    """A model in one format.  theirs, ours: fresh sessions of ONNX Runtime and of TVM"""

    form: str
    compile_s: float
    theirs: Callable[[], Any]
    ours: Callable[[], Any]


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


def build(name: str, forms: Sequence[str], folder: Path, threads: int) -> tuple[dict[str, np.ndarray], list[Built]]:
    """What to feed the model, and the model in those formats that this machine has."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.machine import Machine
    from lwc.compiler.core.model import Model
    from lwc.compiler.core.target import host

    path, machine = fixed_file(name, folder), replace(Machine.of(host()), cores=threads)
    random = np.random.default_rng(0)
    feeds = {port.name: ones_or_noise(port, random) for port in Signature.of(Model.open(path)).inputs}
    plans = {
        "fp32": lambda: (path, machine),
        "bf16": lambda: (path, replace(machine, bfloat16=True)),
        "int8": lambda: (int8_file(path, folder), machine),
    }
    return feeds, [build_one(form, *plans[form](), threads) for form in forms if form != "bf16" or machine.tiles]


def int8_file(path: Path, folder: Path) -> Path:
    """What `lwc compile` makes of the file; random weights would break any budget of accuracy."""
    out = folder / f"{path.stem}.lwc"
    compiled(path, out, "--precision", "int8", "--max-drop", 1, "--samples", SAMPLES)
    return out / "model.onnx"


def build_one(form: str, path: Path, machine: Any, threads: int) -> Built:
    """The file compiled for the machine."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.importer import import_model
    from lwc.backends.tvm.pipeline import compile_module
    from lwc.backends.tvm.session import TvmSession
    from lwc.compiler.core.model import Model

    model = Model.open(path)
    signature, begun = Signature.of(model), time.perf_counter()
    program = compile_module(import_model(model), machine)
    seconds = time.perf_counter() - begun
    ours = partial(TvmSession, program, signature.inputs, signature.outputs, path.stem)
    return Built(form, seconds, partial(OnnxRuntime, path, threads), ours)


def ones_or_noise(port: Any, random: np.random.Generator) -> np.ndarray:
    """Noise for floats; ones for indices, which every vocabulary has."""
    if port.dtype.kind == "f":
        return random.normal(size=port.shape).astype(port.dtype)
    return np.ones(port.shape, port.dtype)


def difference(built: Built, feeds: Mapping[str, np.ndarray]) -> float:
    """From ONNX Runtime, over the greatest output."""
    want, found = built.theirs().run(feeds), built.ours().run(feeds)
    return max(float(np.abs(found[name] - y).max() / np.abs(y).max()) for name, y in want.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet18,mobilenet_v2,minilm-l3")
    parser.add_argument("--formats", default="fp32,bf16,int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        forms = args.formats.split(",")
        made = {name: build(name, forms, Path(folder), args.threads) for name in args.models.split(",")}
        print("| model | format | ONNX Runtime ms | ratio | compile s | difference |\n|---|---|---|---|---|---|")
        for name, (feeds, formats) in made.items():
            for built in formats:
                theirs, ours = times([built.theirs, built.ours], feeds, args.seconds, ROUNDS)
                cells = f"{theirs:.2f} | {ours / theirs:.2f} | {built.compile_s:.0f} | {difference(built, feeds):.0e}"
                print(f"| {name} | {built.form} | {cells} |")


if __name__ == "__main__":
    main()
