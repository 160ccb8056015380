"""Give every node a name of its own, because sites are known by their node's name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext


@dataclass(frozen=True)
class NameNodes(Pass):
    """Names that are unique stay; the others are made from the node's first output, or its operator.

    Deterministic: in graph order, `name`, `name.1`, `name.2` ... whichever is free first. Scope: main graph and
    subgraphs together. Names are no part of the digest, so nothing is reported as changed.
    """

    name: ClassVar[str] = "name-nodes"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        nodes = [node for graph in model.graphs() for node in graph]
        taken = {node.name for node in nodes if node.name}
        seen: set[str] = set()
        suffixes: Counter[str] = Counter()
        for node in nodes:
            if node.name and node.name not in seen:
                seen.add(node.name)
                continue
            wanted = node.name or _first_output(node) or node.op_type
            name = wanted
            while name in taken:
                suffixes[wanted] += 1
                name = f"{wanted}.{suffixes[wanted]}"
            taken.add(name)
            seen.add(name)
            node.name = name
        return Outcome()


def _first_output(node: ir.Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")
