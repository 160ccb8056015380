"""How far two models part: per output, per layer, and the first layer where it begins.

SQNR = 10 log10(sum a^2 / sum (a - b)^2)    over all samples, of each value that both models name alike
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lwc.compiler.core.backend import Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.report import OutputFidelity
from lwc.compiler.core.target import Target, find_target
from lwc.compiler.data import Calibration
from lwc.compiler.measure import FidelityMeter
from lwc.compiler.sources import Openable, Source, open_samples, open_source

SAMPLES = 8  # enough to see where models part; more only sharpens the numbers
THRESHOLD_DB = 20.0  # noise a tenth of the signal
VALUES_AT_ONCE = 128  # values of one sample held in memory together


@dataclass(frozen=True)
class LayerDifference:
    """One value that both models compute, and the node of the first model that makes it."""

    value: str
    node: str
    op: str
    fidelity: OutputFidelity


@dataclass(frozen=True)
class Comparison:
    """Differences of B to A. layers: in topological order of A;  parted: the first layer below the threshold."""

    outputs: Mapping[str, OutputFidelity]
    layers: tuple[LayerDifference, ...]
    parted: LayerDifference | None
    threshold_db: float
    samples: int
    source: str


def verify(
    a: Openable,
    b: Openable,
    *,
    calib: object | None = None,
    samples: int | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    target: str = "host",
    layers: bool = True,
    threshold_db: float = THRESHOLD_DB,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Run two models (paths, artifacts or models) on the same samples and compare what they compute.

    Values are matched by name, those of subgraphs left out. Raises BadInput when the models cannot be compared.
    """
    first, second, place = open_source(a), open_source(b), find_target(target)
    sessions = first.session(place), second.session(place)
    _same_signature(first, second, sessions)
    calibration = open_samples(first, sessions[0], calib=calib, count=samples or SAMPLES, shape=shape, seed=seed)
    listener = progress or Silent()
    listener.stage("Comparing outputs", len(calibration))
    outputs = _compare(sessions, calibration, listener)
    found = tuple(_layers(first, second, place, calibration, listener)) if layers else ()
    parted = next((layer for layer in found if layer.fidelity.sqnr_db < threshold_db), None)
    return Comparison(outputs, found, parted, threshold_db, len(calibration), calibration.source)


def _same_signature(a: Source, b: Source, sessions: tuple[Session, Session]) -> None:
    for what, left, right in (
        ("inputs", sessions[0].inputs, sessions[1].inputs),
        ("outputs", sessions[0].outputs, sessions[1].outputs),
    ):
        names = {port.name for port in left}, {port.name for port in right}
        if names[0] != names[1]:
            lists = [", ".join(sorted(each)) or "none" for each in names]
            raise BadInput(f"'{a.label}' and '{b.label}' differ in their {what}: {lists[0]}; {lists[1]}.")


def _compare(sessions: tuple[Session, Session], samples: Calibration, progress: Progress) -> dict[str, OutputFidelity]:
    meter = FidelityMeter()
    for sample in samples:
        meter.update(sessions[0].run(sample), sessions[1].run(sample))
        progress.advance()
    return meter.result()


def _layers(
    a: Source, b: Source, target: Target, samples: Calibration, progress: Progress
) -> Iterator[LayerDifference]:
    """The values that both main graphs make, some at a time, in the order of A."""
    theirs = {value.name for node in b.model.graph for value in node.outputs}
    shared = [
        (value.name, node)
        for node in a.model.graph
        for value in node.outputs
        if value.name and value.name in theirs and not _is_constant(node)
    ]
    groups = [shared[k : k + VALUES_AT_ONCE] for k in range(0, len(shared), VALUES_AT_ONCE)]
    progress.stage("Comparing layers", len(samples) * len(groups))
    for group in groups:
        names = [name for name, _ in group]
        found = _compare((a.tapped(target, names), b.tapped(target, names)), samples, progress)
        for name, node in group:
            if name in found:
                yield LayerDifference(name, node.name or "", node.op_type, found[name])


def _is_constant(node: ir.Node) -> bool:
    return node.op_type == "Constant" and node.domain == ""
