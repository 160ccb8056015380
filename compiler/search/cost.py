"""Measured cost of each choice at each site, from profiles of whole-model builds in each uniform format.

Whole models, so that fusion is seen: a Relu that vanishes into an integer convolution costs nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.crossings import Flow, flows
from lwc.compiler.analysis.sites import swallowed_by
from lwc.compiler.analysis.weights import weights_at
from lwc.compiler.core.backend import Backend
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import (
    BFloat16,
    Choice,
    DynamicInt8,
    Float,
    Float8,
    Float16,
    Plan,
    Range,
    Site,
    StaticInt8,
    Weight16,
    WeightOnly,
)
from lwc.compiler.core.target import Target
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.space import ACTIVATIONS, Crossing
from lwc.passes.precision.followers import moves_codes
from lwc.passes.precision.weight_forms import stored_bytes

PROFILED_RUNS = 12
PROBE_ELEMENTS = 1 << 20
FLOAT = Float()


def measured_costs(
    bench: Workbench, options: Mapping[Site, Sequence[Choice]], ranges: Mapping[str, Range]
) -> dict[tuple[Site, Choice], float]:
    """Milliseconds of every (site, choice): one profile per kind of choice, all sites that offer it switched to it.

    Infinite for kinds that the runtime cannot run.
    """
    kinds = sorted({choice.name for choices in options.values() for choice in choices})
    tails = swallowed_by(bench.model)
    costs: dict[tuple[Site, Choice], float] = {}
    for kind in kinds:
        chosen = {site: choice for site, choices in options.items() for choice in choices if choice.name == kind}
        plan = Plan() if kind == Float.name else Plan({s: _rounded_fast(c) for s, c in chosen.items()}, ranges)
        times = bench.profile(plan, PROFILED_RUNS)
        if times is None:
            costs.update(dict.fromkeys(chosen.items(), math.inf))
            continue
        for node, owner in tails.items():
            times[owner] = times.get(owner, 0.0) + times.get(node, 0.0)
        costs.update({(site, choice): times.get(site.name, 0.0) for site, choice in chosen.items()})
    return costs


def _rounded_fast(choice: Choice) -> Choice:
    """Runs as long as the choice: the same form with other codes."""
    return replace(choice, weight_range="minmax", rounding="nearest") if isinstance(choice, WeightOnly) else choice


@dataclass(frozen=True)
class Rates:
    """Milliseconds to quantize, dequantize or cast one number.

    casts: by short float format, from and to float32 on average
    """

    quantize: float
    dequantize: float
    casts: Mapping[str, float] = field(default_factory=dict)


def exchanged(model: Model, sites: Sequence[Site], target: Target) -> tuple[Flow, ...]:
    """Values that sites make or read, operators that move them between sites looked through."""
    return flows(model.graph, sites, lambda node: moves_codes(node, target))


def crossings(found: Iterable[Flow], elements: Mapping[str, float], rates: Rates) -> tuple[Crossing, ...]:
    """What each value between sites pays when its format changes.

    elements: numbers per run by value name
    """
    return tuple(
        Crossing(
            flow.value,
            flow.producer,
            flow.consumers,
            flow.read_as_float,
            quantize_ms=rates.quantize * count,
            dequantize_ms=0.0 if _writes_float(flow.producer) else rates.dequantize * count,
            cast_ms={short: rate * count for short, rate in rates.casts.items()},
        )
        for flow in found
        for count in (elements.get(flow.value, 0.0),)
    )


def _writes_float(producer: Site | None) -> bool:
    """Integer matrix products can write float at no cost (MatMulIntegerToFloat, QGemm with float output)."""
    return producer is not None and producer.op in ("MatMul", "Gemm")


def crossing_rates(
    backend: Backend, target: Target, cache: Cache, short: frozenset[type[Choice]] = frozenset()
) -> Rates:
    """Measured on this machine, once.

    short: float formats that sites may have one by one
    """
    key = (backend.name, backend.version(), target.fingerprint)

    def rate(name: str, probe: Callable[[], Model], dtype: type[np.generic]) -> float:
        known = cache.get("crossing", (*key, name))
        if known is None:
            times = backend.profile(probe(), target, [{"x": np.ones((1, PROBE_ELEMENTS), dtype)}], PROFILED_RUNS)
            known = sum(times.values()) / PROBE_ELEMENTS
            cache.put("crossing", (*key, name), known)
        return float(known)

    quantize = rate("QuantizeLinear", lambda: _scale_probe("QuantizeLinear"), np.float32)
    dequantize = rate("DequantizeLinear", lambda: _scale_probe("DequantizeLinear"), np.uint8)
    types = {ACTIVATIONS[kind]: dtype for kind, dtype in _SHORT.items() if kind in short}
    casts = {name: rate(name, partial(_cast_probe, dtype), np.float32) / 2 for name, dtype in types.items()}
    return Rates(quantize, dequantize, casts)


_SHORT: Mapping[type[Choice], ir.DataType] = {
    Float16: ir.DataType.FLOAT16, BFloat16: ir.DataType.BFLOAT16, Float8: ir.DataType.FLOAT8E4M3FN,
}  # fmt: skip


def _scale_probe(op: str) -> Model:
    read, written = ir.DataType.FLOAT, ir.DataType.UINT8
    if op == "DequantizeLinear":
        read, written = written, read
    x, constants = _input(read), [_constant("scale", np.float32(0.5)), _constant("zero", np.uint8(3))]
    node = ir.Node("", op, [x, *constants], name="probe")
    return _probe(x, [node], constants, written, 17)


def _cast_probe(dtype: ir.DataType) -> Model:
    """To the format and back: not every runtime gives numbers of every format out."""
    x = _input(ir.DataType.FLOAT)
    enter = ir.Node("", "Cast", [x], {"to": ir.AttrInt64("to", int(dtype))}, name="enter")
    leave = ir.Node("", "Cast", enter.outputs, {"to": ir.AttrInt64("to", int(ir.DataType.FLOAT))}, name="leave")
    return _probe(x, [enter, leave], [], ir.DataType.FLOAT, 19)


def _probe(x: ir.Value, nodes: Sequence[ir.Node], constants: list[ir.Value], dtype: ir.DataType, opset: int) -> Model:
    for node in nodes:
        node.outputs[0].name = f"{node.name}_out"
    y = nodes[-1].outputs[0]
    y.type, y.shape = ir.TensorType(dtype), x.shape
    graph = ir.Graph([x], [y], nodes=nodes, initializers=constants, opset_imports={"": opset}, name="probe")
    return Model(ir.Model(graph, ir_version=9), "probe")


def _input(dtype: ir.DataType) -> ir.Value:
    return ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape((1, PROBE_ELEMENTS)))


def _constant(name: str, value: np.generic) -> ir.Value:
    tensor = ir.tensor(np.asarray(value), name=name)
    return ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(()))


def weight_bytes(node: ir.Node, choice: Choice, target: Target | None = None) -> int:
    """Bytes of the node's constant weights under the choice; of one that n nodes read alike, an nth.

    Weight-only: codes, scales and zero points, exactly (target: whether it must be portable);  int8: the weight
    itself one byte each;  other formats: their width, of matrices of weights
    """
    if isinstance(choice, WeightOnly):
        return stored_bytes(node, choice, portable=target is not None and target.portable)
    total = stored_bytes(node, FLOAT, portable=False)
    if isinstance(choice, StaticInt8 | DynamicInt8):
        constants = [value for value in node.inputs if value is not None and value.const_value is not None]
        return total - sum(_saved(value, 1) for value in constants[:1])
    width = _WIDTHS.get(type(choice))
    if width is None or (target is not None and target.bf16_by_hint):
        return total
    return total - sum(_saved(reader.inputs[view.index], width) for reader, view in weights_at(node))


def graph_bytes(node: ir.Node, choice: Choice) -> int:
    """What the choice adds to a file beside weights: nodes, and constants with their names and shapes; about.

    Counted in files of ppocr-cls and basic-pitch without names and notes (see slim).
    """
    views = len(weights_at(node))
    if isinstance(choice, WeightOnly):
        return views * (5 * _NODE + 2 * _CONSTANT)
    if isinstance(choice, Weight16):
        return views * _NODE
    if not isinstance(choice, StaticInt8 | DynamicInt8):
        return 0
    # A scale per output for the weight and one for the bias; codes in the bias take what its numbers took.
    outputs = sum(view.rows for _, view in weights_at(node)[:1])
    return 2 * _NODE + 2 * _CONSTANT + (2 * (_NODE + 2 * _CONSTANT) + 8 * outputs if views else 0)


_NODE, _CONSTANT = 30, 20
_WIDTHS: Mapping[type[Choice], int] = {Weight16: 2, Float16: 2, BFloat16: 2, Float8: 1}


def _saved(value: ir.Value | None, width: int) -> int:
    """What a reader's part of a constant weighs less when each number takes `width` bytes."""
    assert value is not None
    assert value.const_value is not None
    tensor = value.const_value
    return round((int(tensor.nbytes) - width * int(tensor.size)) / max(1, len(value.uses())))
