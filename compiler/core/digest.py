"""Digest of a graph: equal for equal computations, whatever the order of nodes or the names between them.

    h(input)       = H("input", name, type)
    h(initializer) = H("tensor", dtype, shape, bytes)
    h(node)        = H(domain, op, attributes, h(inputs) ...)      h(output k) = H(h(node), k)
    h(graph)       = H(inputs in order, outputs in order, sorted h(node))

Names of graph inputs and outputs count: callers use them. Initializers without a use count as dead nodes do.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable

import onnx_ir as ir

_tensor_digests: dict[int, tuple[weakref.ref[ir.TensorProtocol], bytes]] = {}


def digest(model: ir.Model) -> str:
    """Hexadecimal digest of the main graph, subgraphs, functions and imported opsets."""
    functions = sorted(
        _hash("function", repr(key), _graph_digest(function, {})) for key, function in model.functions.items()
    )
    opsets = sorted(f"{domain}:{version}" for domain, version in model.opset_imports.items())
    return _hash(_graph_digest(model.graph, {}), *functions, *opsets).hex()


def tensor_digest(tensor: ir.TensorProtocol) -> bytes:
    """Digest of dtype, shape and bytes; kept per tensor object, because tensors are never written into."""
    known = _tensor_digests.get(id(tensor))
    if known is not None and known[0]() is tensor:
        return known[1]
    h = hashlib.blake2b(f"{tensor.dtype}:{list(tensor.shape)}".encode(), digest_size=16)
    h.update(repr(tensor.numpy().tolist()).encode() if tensor.dtype == ir.DataType.STRING else tensor.tobytes())
    try:
        _tensor_digests[id(tensor)] = (weakref.ref(tensor), h.digest())
    except TypeError:  # slots without __weakref__: recompute next time
        pass
    return h.digest()


def _hash(*parts: str | bytes) -> bytes:
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.digest()


def _graph_digest(graph: ir.Graph | ir.Function, outer: dict[ir.Value, bytes]) -> bytes:
    known = dict(outer)
    inputs = []
    for value in graph.inputs:
        known[value] = _hash("input", value.name or "", f"{value.type} {value.shape}")
        inputs.append(known[value])
    nodes: list[bytes] = []
    if isinstance(graph, ir.Graph):
        for value in graph.initializers.values():
            tensor = tensor_digest(value.const_value) if value.const_value is not None else b""
            overridable = known.get(value, b"")
            known[value] = _hash("tensor", tensor, overridable)
            nodes.append(known[value])
    for node in graph:
        nodes.append(_node_digest(node, known))
        for k, output in enumerate(node.outputs):
            known[output] = _hash(nodes[-1], str(k))
    outputs = [known.get(value, b"?") + (value.name or "").encode() for value in graph.outputs]
    return _hash(*inputs, "->", *outputs, "nodes", *sorted(nodes))


def _node_digest(node: ir.Node, known: dict[ir.Value, bytes]) -> bytes:
    attributes: Iterable[bytes] = (
        _hash(name, _attribute_digest(attribute, known)) for name, attribute in sorted(node.attributes.items())
    )
    inputs = [b"" if value is None else known.get(value, b"?") for value in node.inputs]
    return _hash(
        node.domain, node.op_type, node.overload, str(len(node.outputs)), *attributes, "inputs", *inputs
    )


def _attribute_digest(attribute: ir.Attr, known: dict[ir.Value, bytes]) -> bytes:
    if attribute.ref_attr_name:
        return _hash("ref", attribute.ref_attr_name)
    kind = attribute.type
    if kind == ir.AttributeType.GRAPH:
        return _graph_digest(attribute.as_graph(), known)
    if kind == ir.AttributeType.GRAPHS:
        return _hash(*(_graph_digest(graph, known) for graph in attribute.as_graphs()))
    if kind == ir.AttributeType.TENSOR:
        return tensor_digest(attribute.as_tensor())
    if kind == ir.AttributeType.TENSORS:
        return _hash(*(tensor_digest(tensor) for tensor in attribute.as_tensors()))
    return _hash(str(kind), repr(attribute.value))
