"""Weight-only integers: weights in 8 or 4 bits, arithmetic in float.

    w ~ scale * (code - zero)      one scale per output and group of inputs

How each operator's weight is written, and why, stands in weight_forms. Activations stay float, so this needs no
ranges; rounding other than to the nearest needs the statistics of its site. Needs opset 21 (4-bit types, blocks).

Scope: sites of the main graph, and all that the subgraphs of an If, Loop or Scan read when that is the site; a
constant that others read too stays for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.weights import WeightView, weights_at
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site, WeightOnly
from lwc.passes.edit import opset
from lwc.passes.precision.as_block_product import FOREIGN, write_bits_product, write_blocked_product
from lwc.passes.precision.as_float_weight import float_weight
from lwc.passes.precision.as_lookup import write_lookup
from lwc.passes.precision.integer_weights import Emitter, IntegerWeight
from lwc.passes.precision.solved import WeightMatrix, solved_weight
from lwc.passes.precision.weight_forms import Form, Stored, product, stored

_GREATEST_SCALE = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Applies Weight8 and Weight4 at the plan's sites.

    accuracy_level: of MatMulNBits, 1: float32 arithmetic, 4: activations in int8 with a scale per block, faster
    """

    name: ClassVar[str] = "quantize_weights"
    accuracy_level: int = 4

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen = dict(ctx.plan.sites(WeightOnly))
        if not chosen:
            return Outcome()
        if opset(model) < WeightOnly.opset:
            raise UnsupportedOpset(
                f"The model has opset {opset(model)}; integer weights need {WeightOnly.opset}.", "Raise it first."
            )
        nodes = {node.name: node for node in model.graph}
        rewriter = _Rewriter(model, ctx, self.accuracy_level)
        changed: list[Site] = []
        skipped: list[Skip] = []
        for site, choice in chosen.items():
            node = nodes.get(site.name)
            reason = "the main graph has no node of this name" if node is None else rewriter.rewrite(node, site, choice)
            if reason:
                skipped.append(Skip(site, reason))
            else:
                changed.append(site)
        rewriter.finish()
        return Outcome(tuple(changed), tuple(skipped))


class _Rewriter:
    def __init__(self, model: ir.Model, ctx: PassContext, accuracy_level: int) -> None:
        self._model = model
        self._ctx = ctx
        self._accuracy_level = accuracy_level
        self._emitter = Emitter(model)

    def rewrite(self, node: ir.Node, site: Site, choice: WeightOnly) -> str:
        """Replace the node's constants; a reason when they stay as they are."""
        found = weights_at(node)
        if not found:
            return "it reads no float32 constant that is worth it"
        weights = [self._solve(reader, view, site, choice) for reader, view in found]
        if any(float(weight.grid.scale.max(initial=0.0)) >= _GREATEST_SCALE for weight in weights):
            return "its weights are too large for scales in half precision"
        unit = product(node)
        orphans = [reader.inputs[view.index] for reader, view in found] + [None if unit is None else unit.bias]
        for (reader, view), weight in zip(found, weights, strict=True):
            self._write(reader, view, weight)
        for value in orphans:
            _drop(value)
        return ""

    def finish(self) -> None:
        self._emitter.finish()

    def _solve(self, node: ir.Node, view: WeightView, site: Site, choice: WeightOnly) -> IntegerWeight:
        kept = stored(node, view, choice, portable=self._ctx.target.portable)
        matrix = matrix_of(node, site, kept)
        stats = self._ctx.stats.get(site)
        codes, grid = solved_weight(matrix, replace(choice, group=kept.group), stats, self._ctx.solved)
        value = node.inputs[view.index]
        assert value is not None
        shape = tuple(int(size) for size in matrix.tensor.shape.numpy())
        return IntegerWeight(kept, value.name or "weight", shape, codes, grid)

    def _write(self, node: ir.Node, view: WeightView, weight: IntegerWeight) -> None:
        form = weight.stored.form
        if form is Form.LOOKED_UP:
            write_lookup(self._emitter, node, weight)
        elif form is Form.FOLDED:
            node.replace_input_with(view.index, float_weight(self._emitter, weight))
        else:
            unit = product(node)
            assert unit is not None
            if form is Form.NBITS:
                write_bits_product(self._emitter, unit, weight, self._accuracy_level)
                self._model.opset_imports.setdefault(FOREIGN, 1)
            else:
                write_blocked_product(self._emitter, unit, weight)


def matrix_of(node: ir.Node, site: Site, kept: Stored) -> WeightMatrix:
    """What is solved for a weight that is stored so; with the group as stored, solvers find it in the memo."""
    value = node.inputs[kept.view.index]
    assert value is not None
    assert value.const_value is not None
    unit = product(node) if kept.form in (Form.NBITS, Form.BLOCKED) else None
    return WeightMatrix(site, value.const_value, kept.view, 1.0 if unit is None else unit.factors[0])


def _drop(value: ir.Value | None) -> None:
    """Remove an initializer that nobody reads any more."""
    if value is None or value.graph is None or not value.is_initializer():
        return
    if not (value.uses() or value.is_graph_input() or value.is_graph_output()):
        value.graph.initializers.pop(value.name or "", None)
