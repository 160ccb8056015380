"""Layers of a model or an artifact: what they are, what they weigh, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from lwc import backends
from lwc.compiler.analysis.shapes import fix_dimensions
from lwc.compiler.analysis.sites import macs
from lwc.compiler.analysis.value_sizes import sized_for
from lwc.compiler.core.backend import Feeds
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.target import Target, find_target
from lwc.compiler.measure import representative
from lwc.compiler.sources import Openable, Source, open_samples, open_source

RUNS = 20
SAMPLES = 4
INSERTED = "(runtime)"
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Layer:
    """One node of the main graph. shape: of its first output;  bytes: of its weights

    share: of the run's time, 0 to 1; None when it was not measured or the runtime fused the node into another
    choice: what the plan decided there; empty when it decided nothing
    refused: why the runtime that was asked about does not take it; empty when it does
    """

    name: str
    op: str
    shape: tuple[int | str, ...] | None
    parameters: int
    macs: int
    bytes: int
    share: float | None = None
    choice: str = ""
    refused: str = ""


def inspect(
    source: Openable,
    *,
    calib: object | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    target: str = "host",
    backend: str | None = None,
    profile: bool = True,
    seed: int = 0,
) -> list[Layer]:
    """The layers in topological order; nodes that the runtime made up follow with the operator '(runtime)'.

    Conversions to and from integers are layers only where they take time of their own.

    backend: a runtime to ask what it takes, and to measure on; None: the artifact's, or ONNX Runtime
    profile: run the model to measure shares of time, on samples of `calib` or synthetic ones
    """
    opened = open_source(source)
    plan = opened.artifact.plan if opened.artifact else Plan()
    choices = {site.name: choice.name for site, choice in plan.choices.items()}
    annotated = opened.model.fork()
    fix_dimensions(annotated.ir, shape or {})
    layers = [replace(layer, choice=choices.get(layer.name, "")) for layer in _layers(annotated.graph)]
    place = find_target(target)
    runtime = opened.backend if backend is None else backends.get(backend)
    feeds = _feeds(opened, place, calib, shape, seed) if profile or backend is not None else {}
    if backend is not None:
        refused = runtime.supports(sized_for(annotated, feeds), place).refused
        layers = [replace(layer, refused=refused.get(layer.name, "")) for layer in layers]
        runtime = (backends.stand_in(runtime.name) if refused else None) or runtime
    if not profile:
        return [layer for layer in layers if layer.op not in CONVERSIONS]
    return _timed(layers, runtime.profile(opened.model, place, [feeds], RUNS))


def _layers(graph: ir.Graph) -> Iterator[Layer]:
    for node in graph:
        if _is_constant(node):
            continue
        tensors = _weights(node)
        output = node.outputs[0] if node.outputs else None
        yield Layer(
            node.name or (output.name if output is not None else None) or node.op_type,
            node.op_type if node.domain == "" else f"{node.domain}:{node.op_type}",
            _shape(output),
            sum(tensor.size for tensor in tensors),
            macs(node),
            sum(tensor.nbytes for tensor in tensors),
        )


def _is_constant(node: ir.Node) -> bool:
    """A Constant, or the DequantizeLinear of a weight: counted with the layer that reads it."""
    return node.op_type == "Constant" or (node.op_type == "DequantizeLinear" and _stored(node.inputs[0]) is not None)


def _weights(node: ir.Node) -> list[ir.TensorProtocol]:
    """The stored tensors a node works with; scales and zero points are none."""
    if node.op_type in CONVERSIONS:
        return []
    return [tensor for value in node.inputs if (tensor := _weight(value)) is not None]


def _weight(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind an input, seen through a DequantizeLinear."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "DequantizeLinear":
        return _stored(node.inputs[0])
    if node is not None and node.op_type == "Constant" and "value" in node.attributes:
        return node.attributes["value"].as_tensor()
    return _stored(value)


def _stored(value: ir.Value | None) -> ir.TensorProtocol | None:
    if value is None or value.is_graph_input():
        return None
    return value.const_value


def _shape(value: ir.Value | None) -> tuple[int | str, ...] | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape)


def _feeds(
    source: Source, target: Target, calib: object | None, shape: Mapping[str, Sequence[int]] | None, seed: int
) -> Feeds:
    session = source.session(target)
    samples = open_samples(source, session, calib=calib, count=SAMPLES, shape=shape, seed=seed)
    sample = representative(samples, [port.name for port in session.inputs])
    return {port.name: sample[port.name] for port in session.inputs}


def _timed(layers: Sequence[Layer], milliseconds: Mapping[str, float]) -> list[Layer]:
    total = sum(milliseconds.values()) or 1.0
    known = {layer.name for layer in layers}
    inserted = [
        Layer(name, INSERTED, None, 0, 0, 0, ms / total) for name, ms in milliseconds.items() if name not in known
    ]
    return [
        replace(layer, share=milliseconds[layer.name] / total) if layer.name in milliseconds else layer
        for layer in layers
        if layer.name in milliseconds or layer.op not in CONVERSIONS
    ] + inserted
