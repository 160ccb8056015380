"""Put the branch that is always taken in the place of an If."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import Names, constant_array, is_op, new_node, redirect, release, site


@dataclass(frozen=True)
class InlineBranches(Pass):
    """If(true) { A } else { B } -> A, for a constant condition.

    The branch's values get names that clash with none. Where a branch's output is not made by a node of the
    branch (an outer value, a constant), an Identity makes it. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "inline-branches"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        names = Names(model)
        for graph in list(model.graphs()):
            for node in graph:
                condition = constant_array(node.inputs[0]) if is_op(node, "If") and node.inputs else None
                if condition is not None and condition.size == 1:
                    changed.append(site(node))
                    _inline(graph, node, bool(condition.reshape(-1)[0]), names)
        return Outcome(tuple(changed))


def _inline(graph: ir.Graph, node: ir.Node, taken: bool, names: Names) -> None:
    branch = node.attributes["then_branch" if taken else "else_branch"].as_graph()
    other = node.attributes["else_branch" if taken else "then_branch"].as_graph()
    results = list(branch.outputs)
    branch.outputs.clear()
    inner = list(branch)
    branch.remove(inner)
    _move_initializers(branch, graph, names)
    for moved in inner:
        moved.name = f"{node.name}/{moved.name}" if node.name and moved.name else None
        for value in moved.outputs:
            value.name = names.claim(value.name) if value.name else value.name
    graph.insert_before(node, inner)
    for output, result in zip(node.outputs, results, strict=True):
        if not redirect(output, result):
            bridge = new_node("Identity", [result])
            graph.insert_before(node, bridge)
            redirect(output, bridge.outputs[0])
    graph.remove(node, safe=True)
    release(other)


def _move_initializers(branch: ir.Graph, graph: ir.Graph, names: Names) -> None:
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        if value.const_value is None:
            continue
        value.name = names.claim(name)
        graph.register_initializer(value)
