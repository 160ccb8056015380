"""Put the bodies of model-local functions in the place of their calls, so that their nodes are sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as onnx_ir_passes

from lwc.compiler.core.pass_ import ForeignPass, Outcome, PassContext


@dataclass(frozen=True)
class InlineFunctions(ForeignPass):
    """f(x) -> body of f with x, for functions of the model's own opsets; ONNX Runtime does the same at load.

    Stays: functions that import another version of an opset than the model, and all of them when a call hands over
    a graph. Uses onnx_ir's InlinePass. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "inline-functions"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        return super().run(model, ctx) if model.functions else Outcome()

    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        if _hands_over_graphs(model):
            return
        imports = model.opset_imports
        onnx_ir_passes.InlinePass(
            lambda function: all(imports.get(d, v) == v for d, v in function.opset_imports.items())
        )(model)


def _hands_over_graphs(model: ir.Model) -> bool:
    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(
        attribute.type in graphs
        for graph in model.graphs()
        for node in graph
        if node.op_identifier() in model.functions
        for attribute in node.attributes.values()
    )
