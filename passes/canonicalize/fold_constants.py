"""Compute at compile time what depends on constants alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site
from lwc.passes.canonicalize.evaluate import elements, evaluate
from lwc.passes.edit import Names, add_initializer, constant, opset, remove, site


@dataclass(frozen=True)
class FoldConstants(Pass):
    """f(c1, c2 ...) -> c, an initializer of the output's name.

    growth: a result of more elements than this is kept as a node unless it is no larger than its inputs (so that
    Expand, Tile, ConstantOfShape ... do not explode the file)
    Stays: random operators, those `evaluate` has no exact rule for, Quantize and Dequantize (integer weights
    stay integers), graph outputs, values a caller can override. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-constants"
    growth: int = 16384

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        skipped: list[Skip] = []
        names, version = Names(model), opset(model)
        for graph in model.graphs():
            for node in graph:
                tensors = _constant_inputs(node)
                if tensors is None:
                    continue
                size = elements(node, tensors)
                if size is None:
                    continue
                if size > max(self.growth, sum(t.size for t in tensors if t is not None)):
                    skipped.append(Skip(site(node), f"constant of {size} elements would grow the file"))
                    continue
                results = evaluate(node, tensors, version)
                if results is not None:
                    changed.append(site(node))
                    _replace(graph, node, results, names)
        return Outcome(tuple(changed), tuple(skipped))


def _constant_inputs(node: ir.Node) -> list[ir.TensorProtocol | None] | None:
    """The tensors of all inputs (None: absent); None when one is not constant or an output must stay a node's."""
    if any(value.is_graph_output() for value in node.outputs):
        return None
    tensors = [constant(value) for value in node.inputs]
    missing = any(v is not None and t is None for v, t in zip(node.inputs, tensors, strict=True))
    return None if missing else tensors


def _replace(graph: ir.Graph, node: ir.Node, results: list[ir.TensorProtocol], names: Names) -> None:
    for output, tensor in zip(node.outputs, results, strict=False):
        if not output.uses():
            continue
        name = output.name or names.claim("constant")
        output.name = None
        output.replace_all_uses_with(add_initializer(graph, name, tensor))
    remove(node)
