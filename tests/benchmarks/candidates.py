"""What `against_peers.py` compares: the float model, every peer, and lwc, each with how it is built and run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peers import openvino_int8, ort

import lwc
from lwc.models import zoo

BUDGET = 0.01
FLOAT, LWC = "float", "lwc-"
FAMILIES = ("onnxruntime", "openvino")

Sample = dict[str, np.ndarray]
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Context:
    """What a candidate is made of: the zoo model, its file, where to build, samples as lwc and the peers get them."""

    name: str
    source: Path
    folder: Path
    threads: int
    lwc_samples: int


@dataclass(frozen=True)
class Candidate:
    """family: one of FAMILIES, or FLOAT or LWC; file: what build leaves; open: run of it, given the test samples"""

    label: str
    family: str
    file: str
    build: Callable[[Context, list[Sample]], object]
    open: Callable[[Context, list[Sample]], Run]


def candidates(args: argparse.Namespace) -> list[Candidate]:
    """Float, the peers of the families asked for, and lwc once for each backend."""
    found = [Candidate(FLOAT, FLOAT, "", lambda c, s: None, lambda c, s: _ort_run(c.source, c))]
    found += [_ort_static(method) for method in ("minmax", "entropy", "percentile")]
    found += [
        _on_ort("ort-dynamic", lambda c, s: ort.dynamic(c.source, c.folder / "ort-dynamic.onnx")),
        _on_ort("onnxsim-static", _onnxsim_static),
        _on_openvino("openvino-fp32", "", "f32"),
        _on_openvino("openvino-bf16", "", "bf16"),
        _on_openvino("nncf-int8", "nncf.xml", "f32"),
        _on_openvino("nncf-int8-bf16", "nncf.xml", "bf16"),
    ]
    wanted = (FLOAT, *args.peers.split(","))
    return [one for one in found if one.family in wanted] + [_lwc(backend) for backend in args.backends.split(",")]


def _on_ort(label: str, build: Callable[[Context, list[Sample]], object]) -> Candidate:
    file = f"{label}.onnx"
    return Candidate(label, "onnxruntime", file, build, lambda c, s: _ort_run(c.folder / file, c))


def _ort_static(method: str) -> Candidate:
    label = f"ort-{method}"
    return _on_ort(label, lambda c, s: ort.static(c.source, c.folder / f"{label}.onnx", s, method))


def _onnxsim_static(context: Context, samples: list[Sample]) -> None:
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(context.source))
    path = context.folder / "simplified.onnx"
    onnx.save(simplified, path)
    ort.static(path, context.folder / "onnxsim-static.onnx", samples, "minmax")


def _on_openvino(label: str, file: str, precision: str) -> Candidate:
    def build(context: Context, samples: list[Sample]) -> None:
        if file:
            openvino_int8.nncf_int8(context.source, context.folder / file, samples)

    def open_(context: Context, test: list[Sample]) -> Run:
        path = context.folder / file if file else context.source
        return openvino_int8.open_run(path, context.source, test, precision, context.threads)

    return Candidate(label, "openvino", file, build, open_)


def _lwc(backend: str) -> Candidate:
    """backend: with '-PRECISION' behind it, that format wherever it is executed, whatever it loses."""
    runtime, _, precision = backend.partition("-")

    def build(context: Context, samples: list[Sample]) -> None:
        lwc.compile(
            context.source, context.folder / f"{LWC}{backend}.lwc", backend=runtime, metric=zoo.metric(context.name),
            calib=list(zoo.samples(context.name, context.lwc_samples, seed=1)), no_cache=True,
            precision=precision or "auto", max_drop=1.0 if precision else BUDGET,
        )  # fmt: skip

    def open_(context: Context, test: list[Sample]) -> Run:
        """The deployable on a plain session where its runtime is ONNX Runtime, as a user would serve it."""
        folder = context.folder / f"{LWC}{backend}.lwc"
        session = lwc.load(folder)
        plain = lwc.Artifact.open(folder).manifest.backend == "onnxruntime"
        return _ort_run(folder / "model.onnx", context) if plain else session.run

    return Candidate(f"{LWC}{backend}", LWC, f"{LWC}{backend}.lwc", build, open_)


def _ort_run(path: Path, context: Context) -> Run:
    session = ort.session(path, context.threads)
    inputs, outputs = ([port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs()))
    return lambda sample: dict(zip(outputs, session.run(None, {name: sample[name] for name in inputs}), strict=True))
