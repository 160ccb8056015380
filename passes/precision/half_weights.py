"""Weights stored in half precision and cast to float32 when the model is loaded.

    Cast_float32(W_fp16)

ONNX Runtime folds the Cast (f16, 1.31), so run time and memory are float's and the file is half as large. Rounding
moves a weight by 2^-11 of itself at most. Scope: sites of the main graph, with what is in their subgraphs; readers
that are no sites keep the float32 weight.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.weights import WeightView, weights_at
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site, Weight16
from lwc.passes.edit import Names, add_initializer
from lwc.passes.precision.float_limits import Limits, extent_of

FLOAT = ir.DataType.FLOAT
FLOAT16 = ir.DataType.FLOAT16


@dataclass(frozen=True)
class StoreHalf(Pass):
    """Applies Weight16 at the plan's sites."""

    name: ClassVar[str] = "store_half"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen = dict(ctx.plan.sites(Weight16))
        nodes = {node.name: node for node in model.graph}
        rewriter = _Rewriter(model, ctx.solved)
        changed: list[Site] = []
        skipped: list[Skip] = []
        for site in chosen:
            node = nodes.get(site.name)
            reason = "the main graph has no node of this name" if node is None else rewriter.rewrite(node)
            if reason:
                skipped.append(Skip(site, reason))
            else:
                changed.append(site)
        return Outcome(tuple(changed), tuple(skipped))


class _Rewriter:
    def __init__(self, model: ir.Model, memo: MutableMapping[Any, Any]) -> None:
        self._names = Names(model)
        self._memo = memo
        self._stored: dict[ir.Value, ir.Value] = {}

    def rewrite(self, node: ir.Node) -> str:
        """Let the node read weights that are stored in halves; a reason when it does not."""
        reads = [(reader, view, _weight(reader, view)) for reader, view in weights_at(node)]
        if not reads:
            return "it reads no float32 constant that is worth it"
        for _, _, value in reads:
            assert value.const_value is not None
            largest = extent_of(value.const_value, self._memo).largest
            if largest >= Limits.of(FLOAT16).beyond:
                return f"its constant '{value.name}' reaches {largest:.3g}, beyond float16"
        for reader, view, value in reads:
            reader.replace_input_with(view.index, self._store(value))
            if not value.uses() and not value.is_graph_output() and value.graph is not None:
                value.graph.initializers.pop(value.name or "", None)
        return ""

    def _store(self, value: ir.Value) -> ir.Value:
        """The float32 view of a constant stored in halves, one for all readers."""
        if value not in self._stored:
            tensor, graph = value.const_value, value.graph
            assert tensor is not None
            assert isinstance(graph, ir.Graph)
            key = ("float", id(tensor), FLOAT16)
            if key not in self._memo:
                with np.errstate(under="ignore"):
                    self._memo[key] = (tensor, tensor.numpy().astype(np.float16))
            half = add_initializer(graph, self._names.claim(f"{value.name}.f16"), self._memo[key][1])
            cast = ir.node("Cast", [half], {"to": int(FLOAT)})
            cast.name = cast.outputs[0].name = self._names.claim(f"{value.name}.float")
            cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(FLOAT), value.shape
            graph.insert_before(graph[0], cast)
            self._stored[value] = cast.outputs[0]
        return self._stored[value]


def _weight(reader: ir.Node, view: WeightView) -> ir.Value:
    value = reader.inputs[view.index]
    assert value is not None
    return value
