"""8-bit floats: activations rounded to the format where they are made, weights stored in it per channel.

    x ~ s Cast_fp8(x / s)      s = max|x| / largest number of the format (E4M3: 448, E5M2: 57344)      no zero points

Written with casts, Mul(Cast_float32(Cast_fp8(Div(x, s))), s), or with QuantizeLinear and DequantizeLinear, which say
the same and are what compilers for GPUs look for. ONNX Runtime (1.31) takes such pairs for integers: of Relu and
QuantizeLinear it drops the Relu, which is right for codes that end at zero, and gives wrong numbers; around MatMul,
Conv and Transpose it makes integer nodes and then refuses the model. So casts are the default. They compute in
float32; weights are folded when the model is loaded.

Scope: sites of the main graph, Conv, Gemm and MatMul by a constant weight. Needs opset 19 (8-bit types).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit, array_of, unit_of
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Float8, Range, Site
from lwc.passes.edit import opset
from lwc.passes.precision.float_limits import Limits
from lwc.passes.precision.integer_weights import Emitter
from lwc.passes.solvers.ranges import SMALLEST_SCALE

FLOAT8_OPSET = 19
_FORMATS = {"e4m3": ir.DataType.FLOAT8E4M3FN, "e5m2": ir.DataType.FLOAT8E5M2}


@dataclass(frozen=True)
class QuantizeFloat8(Pass):
    """Applies Float8 at the plan's sites with the plan's ranges (of the values `float8_values` names).

    pairs: write QuantizeLinear and DequantizeLinear instead of casts, for runtimes other than ONNX Runtime
    """

    name: ClassVar[str] = "quantize_float8"
    pairs: bool = False

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen = dict(ctx.plan.sites(Float8))
        if not chosen:
            return Outcome()
        if opset(model) < FLOAT8_OPSET:
            raise UnsupportedOpset(f"The model has opset {opset(model)}; fp8 needs {FLOAT8_OPSET}.", "Raise it first.")
        rewriter = _Rewriter(model, ctx, self.pairs)
        changed: list[Site] = []
        skipped: list[Skip] = []
        for (site, choice), unit in zip(chosen.items(), _units(model, chosen), strict=True):
            reason = unit if isinstance(unit, str) else rewriter.rewrite(unit, _FORMATS[choice.format])
            if reason:
                skipped.append(Skip(site, reason))
            else:
                changed.append(site)
        rewriter.finish()
        return Outcome(tuple(changed), tuple(skipped))


def float8_values(model: ir.Model, sites: Iterable[Site]) -> frozenset[str]:
    """Names of the values whose ranges Float8 needs at these sites."""
    units = [unit for unit in _units(model, sites) if isinstance(unit, Unit)]
    return frozenset(value.name for unit in units for value in unit.operands() if value.name)


def scaled(weight: NDArray[Any], axis: int | None, dtype: ir.DataType) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Codes like `weight` and scales that broadcast to it, one per index of `axis` (None: one for all).

    The largest magnitude of a channel becomes the largest number of the format; a channel of zeros has scale 1.
    """
    others = tuple(k for k in range(weight.ndim) if k != axis)
    scale = _scale(np.abs(weight).max(axis=others, keepdims=True, initial=0.0), dtype)
    largest = Limits.of(dtype).largest
    return np.clip(weight.astype(np.float32) / scale, -largest, largest).astype(dtype.numpy()), scale


def _scale(reach: NDArray[Any], dtype: ir.DataType) -> NDArray[np.float32]:
    exact = np.asarray(reach, np.float64) / Limits.of(dtype).largest
    return np.where(exact > 0, np.maximum(exact, SMALLEST_SCALE), 1.0).astype(np.float32)


def _units(model: ir.Model, sites: Iterable[Site]) -> list[Unit | str]:
    """The product at each site, or the reason why it takes no 8-bit floats."""
    nodes = {node.name: node for node in model.graph}
    return [_unit(nodes.get(site.name)) for site in sites]


def _unit(node: ir.Node | None) -> Unit | str:
    if node is None:
        return "the main graph has no node of this name"
    unit = unit_of(node)
    if isinstance(unit, str):
        return unit
    if unit.weight is None:
        return "only products by a constant weight take 8-bit floats"
    weight = node.inputs[unit.weight]
    if weight is None or not np.isfinite(array_of(weight)).all():
        return "its weight is not finite"
    return unit


class _Rewriter:
    def __init__(self, model: ir.Model, ctx: PassContext, pairs: bool) -> None:
        self._pairs = pairs
        self._ranges = ctx.plan.ranges
        self._graph = model.graph
        self._emitter = Emitter(model)
        self._rounded: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._weights: dict[tuple[ir.Value, int | None, ir.DataType], ir.Value] = {}

    def rewrite(self, unit: Unit, dtype: ir.DataType) -> str:
        """Round what the unit multiplies; a reason when that cannot be."""
        node, x = unit.node, unit.operands()[0]
        given = self._ranges.get(x.name or "")
        if given is None:
            return f"the plan has no range for its input '{x.name}'"
        assert unit.weight is not None
        weight = node.inputs[unit.weight]
        assert weight is not None
        node.replace_input_with(unit.inputs[0], self._round(x, given, dtype, node))
        node.replace_input_with(unit.weight, self._weight(weight, unit.axis, dtype))
        if not weight.uses() and not weight.is_graph_output():
            self._graph.initializers.pop(weight.name or "", None)
        return ""

    def finish(self) -> None:
        self._emitter.finish()

    def _round(self, x: ir.Value, given: Range, dtype: ir.DataType, owner: ir.Node) -> ir.Value:
        """The value as the format keeps it, rounded once for all readers."""
        if (x, dtype) not in self._rounded:
            scale = _scale(np.array(max(-given.low, given.high, 0.0)), dtype)
            step = self._emitter.constant(f"{x.name}.fp8_scale", scale)
            nodes = self._as_pair(x, step, dtype) if self._pairs else self._as_casts(x, step, dtype)
            for node in nodes:
                node.outputs[0].shape = x.shape
                node.metadata_props[SITE_KEY] = owner.name or ""
            producer = x.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], nodes)
            else:
                self._graph.insert_after(producer, nodes)
            self._rounded[x, dtype] = nodes[-1].outputs[0]
        return self._rounded[x, dtype]

    def _as_pair(self, x: ir.Value, step: ir.Value, dtype: ir.DataType) -> list[ir.Node]:
        zero = self._emitter.constant(f"{x.name}.fp8_zero", np.zeros((), dtype.numpy()))
        quantize = self._emitter.node("QuantizeLinear", [x, step, zero], f"{x.name}.fp8", dtype)
        return [quantize, self._emitter.node("DequantizeLinear", [quantize.outputs[0], step], f"{x.name}.rounded")]

    def _as_casts(self, x: ir.Value, step: ir.Value, dtype: ir.DataType) -> list[ir.Node]:
        node = self._emitter.node
        divided = node("Div", [x, step], f"{x.name}.divided")
        short = node("Cast", [divided.outputs[0]], f"{x.name}.fp8", dtype, attributes={"to": int(dtype)})
        wide = node("Cast", [short.outputs[0]], f"{x.name}.fp8.float", attributes={"to": int(ir.DataType.FLOAT)})
        return [divided, short, wide, node("Mul", [wide.outputs[0], step], f"{x.name}.rounded")]

    def _weight(self, weight: ir.Value, axis: int | None, dtype: ir.DataType) -> ir.Value:
        """The weight in float32 from its codes, made once for all readers."""
        key = (weight, axis, dtype)
        if key not in self._weights:
            emitter = self._emitter
            name, (codes, scale) = weight.name, scaled(array_of(weight), axis, dtype)
            short = emitter.constant(f"{name}.fp8", codes)
            flat = scale.reshape(()) if axis is None else scale.reshape(-1)
            step = emitter.constant(f"{name}.fp8_scale", flat if self._pairs else scale)
            if self._pairs:
                along = {} if axis is None else {"axis": axis}
                made = emitter.computed("DequantizeLinear", [short, step], f"{name}.scaled", codes.shape, along)
            else:
                made = emitter.computed("Mul", [emitter.as_float(short), step], f"{name}.scaled", codes.shape)
            self._weights[key] = made
        return self._weights[key]
