"""Compute equal things once: equal initializers become one, equal nodes become one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.digest import tensor_digest
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, whole_graph
from lwc.compiler.core.plan import Site
from lwc.passes.edit import constant, redirect, remove, site

# Two of these are never equal, even with equal inputs (a training Dropout draws too).
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)


@dataclass(frozen=True)
class MergeDuplicates(Pass):
    """a = f(x), b = f(x) -> a, for equal operators, attributes and inputs; likewise equal constants.

    Stays: random operators, nodes with subgraphs, other domains (their operators may have state), nodes whose
    outputs are graph outputs, and constants a caller can override. Scope: main graph and subgraphs, each for
    itself. onnx_ir's CommonSubexpressionEliminationPass merges Bernoulli and training Dropout.
    """

    name: ClassVar[str] = "merge-duplicates"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            if _merge_initializers(graph):
                changed.append(whole_graph(model))
            changed += _merge_nodes(graph)
        return Outcome(tuple(dict.fromkeys(changed)))


def _merge_initializers(graph: ir.Graph) -> bool:
    kept: dict[Hashable, ir.Value] = {}
    merged = False
    for name, value in list(graph.initializers.items()):
        tensor = constant(value)
        if tensor is None or value.is_graph_output():
            continue
        first = kept.setdefault((tensor.dtype, tuple(tensor.shape), tensor.size, tensor_digest(tensor)), value)
        if first is not value:
            value.replace_all_uses_with(first)
            del graph.initializers[name]
            merged = True
    return merged


def _merge_nodes(graph: ir.Graph) -> list[Site]:
    kept: dict[Hashable, ir.Node] = {}
    changed: list[Site] = []
    for node in graph:
        key = _key(node)
        if key is None:
            continue
        first = kept.setdefault(key, node)
        if first is node or not _take_over(first, node):
            continue
        changed.append(site(node))
        remove(node)
    return changed


def _key(node: ir.Node) -> Hashable | None:
    """Equal for nodes that compute the same; None for nodes that must stay."""
    if node.domain != "" or node.op_type in RANDOM:
        return None
    attributes: list[Hashable] = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.is_ref() or attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        attributes.append((name, attribute.type, _attribute_key(attribute)))
    used = tuple(bool(value.name) for value in node.outputs)
    return (node.op_type, tuple(attributes), tuple(id(value) for value in node.inputs), used)


def _attribute_key(attribute: ir.Attr) -> Hashable:
    if attribute.type == ir.AttributeType.TENSOR:
        return tensor_digest(attribute.as_tensor())
    return repr(attribute.value)


def _take_over(first: ir.Node, second: ir.Node) -> bool:
    """Move all readers from the second node's outputs to the first's; all or none (only graph outputs refuse)."""
    if sum(value.is_graph_output() for value in second.outputs) > 1:
        return False
    pairs = sorted(zip(second.outputs, first.outputs, strict=True), key=lambda pair: not pair[0].is_graph_output())
    return all(redirect(old, new) for old, new in pairs)
