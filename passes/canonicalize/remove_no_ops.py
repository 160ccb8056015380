"""Remove nodes whose output is their input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.canonicalize.no_ops import equal_input
from lwc.passes.edit import opset, redirect, remove, site


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """f(x) = x -> x, for the cases `no_ops` knows.

    Stays: a node between a graph output and a graph input, an initializer, another output or an outer graph's
    value, because a graph output must be a node's. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "remove-no-ops"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        version = opset(model)
        for graph in model.graphs():
            for node in graph:
                value = equal_input(node, version)
                if value is None or not redirect(node.outputs[0], value):
                    continue
                changed.append(site(node))
                remove(node)
        return Outcome(tuple(changed))
