"""Choose each activation's integer range by the error it makes in the layers that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import unrounded
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Range
from lwc.compiler.core.stats import TensorStats
from lwc.compiler.metrics import Sample
from lwc.passes.solvers.clipping import METHODS, quantization_error
from lwc.passes.solvers.rounding import affine_parameters, dequantize, quantize

OpenSession = Callable[[Model, Sequence[str]], Session]
LEVELS = 256
TAPPED_BYTES = 256e6  # values taken out of the model at once
LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def candidate_ranges(stats: Mapping[str, TensorStats]) -> dict[str, dict[str, Range]]:
    """Every clipping method's range of every value: {method: {value: Range}}."""
    return {name: {value: method(s) for value, s in stats.items()} for name, method in METHODS}


def choose_ranges(
    model: Model,
    stats: Mapping[str, TensorStats],
    candidates: Mapping[str, Mapping[str, Range]],
    samples: Sequence[Sample],
    open_session: OpenSession,
    each: Callable[[], None] = lambda: None,
) -> dict[str, Range]:
    """Per value the range with the least error at the outputs of the linear layers that read it.

    candidates: {method: {value: Range}}, as `candidate_ranges` gives them
    Each such layer L is run alone on x and on x quantized with each candidate:  sum ||L(x) - L(q(x))||^2 / ||L(x)||^2.
    A value that no linear layer reads takes the range with the least squared error of its own histogram.
    """
    chosen = {value: _least_own_error(value, s, candidates) for value, s in stats.items()}
    layers = _reading_layers(model, stats)
    for names in _chunks(list(layers), stats):
        tapped = open_session(model, names)
        errors: dict[str, dict[Range, float]] = {}
        sessions = {name: [open_session(_alone(node), ()) for node in layers[name]] for name in names}
        for sample in samples:
            values = tapped.run(sample)
            for name in names:
                ranges = {candidates[method][name] for method in candidates}
                _add_errors(errors.setdefault(name, {}), values[name], ranges, sessions[name])
                each()
        for name, by_range in errors.items():
            chosen[name] = min(sorted(by_range, key=lambda r: (r.low, r.high)), key=by_range.__getitem__)
    return chosen


def _least_own_error(value: str, stats: TensorStats, candidates: Mapping[str, Mapping[str, Range]]) -> Range:
    return min((ranges[value] for ranges in candidates.values()), key=lambda r: quantization_error(stats, r, LEVELS))


def _reading_layers(model: Model, stats: Mapping[str, TensorStats]) -> dict[str, list[ir.Node]]:
    layers: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        first = node.inputs[0] if node.inputs else None
        if node.op_type not in LINEAR or node.domain or first is None or (first.name or "") not in stats:
            continue
        constant = all(value is None or value.const_value is not None for value in node.inputs[1:])
        if constant and first.shape is not None and not unrounded(node):
            layers.setdefault(first.name or "", []).append(node)
    return layers


def _chunks(names: Sequence[str], stats: Mapping[str, TensorStats]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0.0
    for name in names:
        size += 4.0 * stats[name].count
        if chunk and size > TAPPED_BYTES:
            yield chunk
            chunk, size = [], 4.0 * stats[name].count
        chunk.append(name)
    if chunk:
        yield chunk


def _alone(node: ir.Node) -> Model:
    """A model of this node alone: its first input is the model's, its constants come along."""
    first = node.inputs[0]
    assert first is not None
    x = ir.Value(name="x", type=first.type, shape=ir.Shape([None] * len(first.shape or ())))
    constants = [
        None if value is None else ir.Value(name=f"c{i}", const_value=value.const_value, type=value.type)
        for i, value in enumerate(node.inputs[1:])
    ]
    for value, source in zip(constants, node.inputs[1:], strict=True):
        if value is not None and source is not None and source.const_value is not None:
            value.type = ir.TensorType(source.const_value.dtype)
            value.shape = ir.Shape(source.const_value.numpy().shape)
    copy = ir.Node("", node.op_type, [x, *constants], attributes=list(node.attributes.values()), name="layer")
    copy.outputs[0].name, copy.outputs[0].type = "y", first.type
    opset = node.graph.opset_imports if node.graph is not None else {"": 17}
    graph = ir.Graph(
        [x],
        copy.outputs,
        nodes=[copy],
        initializers=[value for value in constants if value is not None],
        opset_imports=dict(opset) or {"": 17},
        name="layer",
    )
    return Model(ir.Model(graph, ir_version=8), node.name or "layer")


def _add_errors(
    errors: dict[Range, float], x: NDArray[np.float32], ranges: set[Range], layers: Sequence[Session]
) -> None:
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, posinf=0.0, neginf=0.0)
    wanted = [layer.run({"x": x})["y"] for layer in layers]
    for range_ in ranges:
        quantized = fake_quantize(x, range_)
        for layer, want in zip(layers, wanted, strict=True):
            got = layer.run({"x": quantized})["y"]
            noise = float(np.square(want - got, dtype=np.float64).sum())
            signal = float(np.square(want, dtype=np.float64).sum())
            errors[range_] = errors.get(range_, 0.0) + noise / max(signal, 1e-30)


def fake_quantize(x: NDArray[np.float32], range_: Range) -> NDArray[np.float32]:
    """x rounded to the 256 values that uint8 over the range can hold (zero among them), as float32."""
    scale, zero_point = affine_parameters(range_)
    return dequantize(quantize(x, scale, zero_point), scale, zero_point)
