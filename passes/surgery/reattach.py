"""Put back what onnx-graphsurgeon loses between import and export."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from lwc.compiler.core.errors import UsageError

FIRST_WITH_OVERRIDES = 4


def overridable(model: ir.Model) -> set[str]:
    """Names of initializers that are inputs too; onnx-graphsurgeon takes them for constants."""
    if model.ir_version < FIRST_WITH_OVERRIDES:
        return set()
    return {value.name or "" for value in model.graph.inputs if value.is_initializer()}


def reattach(edited: onnx.ModelProto, model: ir.Model) -> onnx.ModelProto:
    """`edited` with the inputs, outputs, default values and metadata of `model`.

    Nodes are known by the names of their outputs. Raises UsageError when inputs or outputs are others.
    """
    original = ir.to_proto(model)
    _restore_ports(edited, original, model)
    edited.ir_version = original.ir_version
    edited.doc_string, edited.domain = original.doc_string, original.domain
    edited.model_version = original.model_version
    edited.metadata_props.extend(original.metadata_props)
    edited.graph.metadata_props.extend(original.graph.metadata_props)
    _restore_node_metadata(edited.graph, original.graph)
    _restore_value_metadata(edited.graph, original.graph)
    return edited


def _restore_ports(edited: onnx.ModelProto, original: onnx.ModelProto, model: ir.Model) -> None:
    constants = {tensor.name for tensor in original.graph.initializer} - overridable(model)
    inputs = [value for value in original.graph.input if value.name not in constants]
    for kind, wanted, found in (
        ("inputs", inputs, edited.graph.input),
        ("outputs", original.graph.output, edited.graph.output),
    ):
        names = [[value.name for value in values] for values in (wanted, found)]
        types = [[value.type.tensor_type.elem_type for value in values] for values in (wanted, found)]
        if names[0] != names[1] or types[0] != types[1]:
            raise UsageError(f"The onnx-graphsurgeon edit changed the model's {kind} from {names[0]} to {names[1]}.")
        kept = list(wanted)
        del found[:]
        found.extend(kept)
    held = overridable(model)
    edited.graph.initializer.extend(tensor for tensor in original.graph.initializer if tensor.name in held)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _restore_node_metadata(edited: onnx.GraphProto, original: onnx.GraphProto) -> None:
    known = {node.output[0]: node for graph in _graphs(original) for node in graph.node if node.output}
    for graph in _graphs(edited):
        for node in graph.node:
            before = known.get(node.output[0]) if node.output else None
            if before is None:
                continue
            if not node.metadata_props:
                node.metadata_props.extend(before.metadata_props)
            if not node.doc_string:
                node.doc_string = before.doc_string
            node.overload = before.overload if before.op_type == node.op_type else node.overload


def _restore_value_metadata(edited: onnx.GraphProto, original: onnx.GraphProto) -> None:
    known = {value.name: value for graph in _graphs(original) for value in graph.value_info if value.metadata_props}
    for graph in _graphs(edited):
        for value in graph.value_info:
            if value.name in known and not value.metadata_props:
                value.metadata_props.extend(known[value.name].metadata_props)
