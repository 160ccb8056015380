"""TVM with our schedules beside ONNX Runtime in fp32: latency in alternating rounds with fresh sessions.

    python tests/benchmarks/tvm_speed.py [--models resnet18,mobilenet_v2,minilm-l3] [--threads 2] [--seconds 4]

Columns: milliseconds of ONNX Runtime fp32; TVM's fp32, and bf16 where the processor multiplies it in tiles, as a
ratio to that; seconds to import and compile each; greatest difference of an output over the greatest output. Both
run with --threads threads, batch 1: ResNet-18 and MobileNetV2 at 224x224 with random weights, and zoo models at the
sizes named in SHAPES. All is compiled before anything is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rounds import times

SHAPES: Mapping[str, tuple[int, ...]] = {
    "minilm-l3": (1, 128),
    "ppocr-cls": (1, 3, 48, 192),
    "mnist-cnn": (1, 1, 28, 28),
    "nudenet": (1, 3, 320, 320),
}
STRUCTURES = ("resnet18", "resnet50", "mobilenet_v2")
ROUNDS = 3


@dataclass(frozen=True)
class Built:
    """compile_s: by format;  opens: fresh sessions of ONNX Runtime and of each format, in that order"""

    name: str
    feeds: dict[str, np.ndarray]
    compile_s: dict[str, float]
    opens: list[Callable[[], Any]]


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


def build(name: str, folder: Path, threads: int) -> Built:
    """The model compiled in every format of this machine."""
    from lwc.backends.signature import Signature
    from lwc.backends.tvm.importer import import_model
    from lwc.backends.tvm.machine import Machine
    from lwc.backends.tvm.pipeline import compile_module
    from lwc.backends.tvm.session import TvmSession
    from lwc.compiler.core.model import Model
    from lwc.compiler.core.target import host

    path = fixed_file(name, folder)
    model, machine = Model.open(path), replace(Machine.of(host()), cores=threads)
    signature = Signature.of(model)
    random = np.random.default_rng(0)
    feeds = {port.name: ones_or_noise(port, random) for port in signature.inputs}
    built = Built(name, feeds, {}, [partial(OnnxRuntime, path, threads)])
    for form in ("fp32", "bf16") if machine.tiles else ("fp32",):
        begun = time.perf_counter()
        program = compile_module(import_model(model), replace(machine, bfloat16=form == "bf16"))
        built.compile_s[form] = time.perf_counter() - begun
        built.opens.append(partial(TvmSession, program, signature.inputs, signature.outputs, name))
    return built


def ones_or_noise(port: Any, random: np.random.Generator) -> np.ndarray:
    """Noise for floats; ones for indices, which every vocabulary has."""
    if port.dtype.kind == "f":
        return random.normal(size=port.shape).astype(port.dtype)
    return np.ones(port.shape, port.dtype)


def differences(built: Built) -> list[float]:
    """Of each format from ONNX Runtime, over the greatest output."""
    want, *found = [open_().run(built.feeds) for open_ in built.opens]
    return [max(float(np.abs(run[name] - y).max() / np.abs(y).max()) for name, y in want.items()) for run in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet18,mobilenet_v2,minilm-l3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        all_built = [build(name, Path(folder), args.threads) for name in args.models.split(",")]
        print("| model | ONNX Runtime ms | format | ratio | compile s | difference |\n|---|---|---|---|---|---|")
        for built in all_built:
            ort_ms, *others = times(built.opens, built.feeds, args.seconds, ROUNDS)
            for (form, seconds), ms, off in zip(built.compile_s.items(), others, differences(built), strict=True):
                print(f"| {built.name} | {ort_ms:.2f} | {form} | {ms / ort_ms:.2f} | {seconds:.0f} | {off:.0e} |")


if __name__ == "__main__":
    main()
