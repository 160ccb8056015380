"""Turn Constant nodes into initializers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import is_op, remove, site


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Constant(value=t) -> initializer t, of the same name and in the same graph.

    Stays: a Constant that is a graph output, and those in functions (which have no initializers).
    Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "lift-constants"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            for node in graph:
                tensor = constant_of(node)
                if tensor is None or node.outputs[0].is_graph_output():
                    continue
                changed.append(site(node))
                _lift(graph, node, tensor)
        return Outcome(tuple(changed))


def constant_of(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor a Constant node makes; None for other nodes."""
    if not is_op(node, "Constant") or len(node.attributes) != 1:
        return None
    attribute = next(iter(node.attributes.values()))
    if attribute.is_ref():
        return None
    if attribute.name == "value":
        return attribute.as_tensor()
    if attribute.name in ("value_int", "value_ints"):
        return ir.tensor(np.array(attribute.value, dtype=np.int64))
    if attribute.name in ("value_float", "value_floats"):
        return ir.tensor(np.array(attribute.value, dtype=np.float32))
    if attribute.name in ("value_string", "value_strings"):
        return _string_tensor(attribute.value)
    return None


def _string_tensor(value: str | list[str]) -> ir.TensorProtocol:
    texts = [value] if isinstance(value, str) else list(value)
    shape: list[int] = [] if isinstance(value, str) else [len(texts)]
    return ir.StringTensor([text.encode() for text in texts], shape=ir.Shape(shape))


def _lift(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    output = node.outputs[0]
    name, output.name = output.name, None
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        const_value=tensor,
        metadata_props=dict(output.metadata_props),
    )
    graph.register_initializer(value)
    output.replace_all_uses_with(value)
    remove(node)
