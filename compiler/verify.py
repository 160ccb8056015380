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


def _compare(
    sessions: tuple[Session, Session],
    samples: Calibration,
    progress: Progress,
    names: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, OutputFidelity]:
    """Fidelity of B's values to A's. names: what to call a pair -> its names in A and B; None: the outputs."""
    meter = FidelityMeter()
    for sample in samples:
        left, right = sessions[0].run(sample), sessions[1].run(sample)
        if names is not None:
            left, right = ({name: one[pair[k]] for name, pair in names.items()} for k, one in enumerate((left, right)))
        meter.update(left, right)
        progress.advance()
    return meter.result()


def _layers(
    a: Source, b: Source, target: Target, samples: Calibration, progress: Progress
) -> Iterator[LayerDifference]:
    """The values that both main graphs make, some at a time, in the order of A."""
    theirs = {value.name: value for node in b.model.graph for value in node.outputs}
    shared = [
        (value, node)
        for node in a.model.graph
        for value in node.outputs
        if value.name and value.name in theirs and not _is_constant(node)
    ]
    groups = [shared[k : k + VALUES_AT_ONCE] for k in range(0, len(shared), VALUES_AT_ONCE)]
    progress.stage("Comparing layers", len(samples) * len(groups))
    for group in groups:
        pairs = {value.name or "": (_as_read(value), _as_read(theirs[value.name])) for value, _ in group}
        tapped = (
            a.tapped(target, [pair[0] for pair in pairs.values()]),
            b.tapped(target, [p[1] for p in pairs.values()]),
        )
        found = _compare(tapped, samples, progress, pairs)
        for value, node in group:
            if value.name in found:
                yield LayerDifference(value.name or "", node.name or "", node.op_type, found[value.name or ""])


def _as_read(value: ir.Value) -> str:
    """Name of the value that readers get: behind the quantization, which a Relu may have been folded into."""
    readers = [usage.node for usage in value.uses()]
    if readers and not value.is_graph_output() and all(node.op_type == "QuantizeLinear" for node in readers):
        for node in (usage.node for usage in readers[0].outputs[0].uses()):
            if node.op_type == "DequantizeLinear":
                return node.outputs[0].name or ""
    return value.name or ""


def _is_constant(node: ir.Node) -> bool:
    return node.op_type == "Constant" and node.domain == ""
