"""Remove nodes, initializers, functions and opset imports that nothing needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as onnx_ir_passes

from lwc.compiler.core.pass_ import ForeignPass, PassContext
from lwc.passes.canonicalize.default_domain import LONG_NAME
from lwc.passes.edit import graphs_of, remove


@dataclass(frozen=True)
class RemoveUnused(ForeignPass):
    """A node goes when nobody reads its outputs; optional outputs that nobody reads go from nodes that stay.

    Uses onnx_ir's passes. Scope: main graph, subgraphs and functions.
    """

    name: ClassVar[str] = "remove-unused"

    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        _remove_unused_control_flow(model)
        onnx_ir_passes.RemoveUnusedNodesPass()(model)
        _remove_unused_subgraph_initializers(model)
        onnx_ir_passes.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        imports = [model.opset_imports, *(function.opset_imports for function in model.functions.values())]
        if not any(LONG_NAME in versions for versions in imports):
            onnx_ir_passes.RemoveUnusedOpsetsPass()(model)


def _remove_unused_control_flow(model: ir.Model) -> None:
    """onnx_ir 1.1.0 removes them too, but their subgraphs keep reading outer values, whose nodes then stay."""
    for node in reversed(model.graph):
        holds_graphs = any(graphs_of(attribute) for attribute in node.attributes.values())
        if holds_graphs and not any(value.uses() or value.is_graph_output() for value in node.outputs):
            remove(node)


def _remove_unused_subgraph_initializers(model: ir.Model) -> None:
    """onnx_ir 1.1.0 clears those of the main graph only."""
    for graph in model.graph.subgraphs():
        for name, value in list(graph.initializers.items()):
            if not (value.uses() or value.is_graph_input() or value.is_graph_output()):
                del graph.initializers[name]
