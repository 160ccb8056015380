"""Digest of a graph: equal for equal computations, whatever the order of nodes or the names between them.

    h(input k)     = H("input", k, type, shape, and for the main graph its name)
    h(initializer) = H("tensor", h(tensor), h(input) when callers may override it)
    h(node)        = H(domain, operator, outputs, attributes sorted by name, h(inputs) ...)
    h(output k)    = h(node) for k = 0, else H(h(node), k)
    h(graph)       = H(inputs in order, outputs in order, sorted h(node), sorted h(initializer))

Names of the main graph's inputs and outputs count: callers use them. Nodes and initializers without a use count as
well, each as often as it is there. Metadata, documentation and shapes between nodes do not count.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.external import contents

_SIZE = 16
_ABSENT = bytes(_SIZE)
_UNMADE = b"?" * _SIZE

_tensor_digests: dict[int, tuple[weakref.ref[ir.TensorProtocol], bytes]] = {}


def digest(model: ir.Model) -> str:
    """Hexadecimal digest of the main graph, subgraphs, functions and imported opsets."""
    functions = sorted(_function_digest(key, function) for key, function in model.functions.items())
    return _hash(_graph_digest(model.graph, {}, named=True), *functions, _opsets(model.opset_imports)).hex()


def tensor_digest(tensor: ir.TensorProtocol) -> bytes:
    """Digest of dtype, shape and bytes; kept per tensor object, because tensors are never written into."""
    key = id(tensor)
    known = _tensor_digests.get(key)
    if known is not None and known[0]() is tensor:
        return known[1]
    h = hashlib.blake2b(f"{tensor.dtype}:{tensor.shape.numpy()}".encode(), digest_size=_SIZE)
    h.update(contents(tensor))
    found = h.digest()
    _tensor_digests[key] = (weakref.ref(tensor, lambda _: _tensor_digests.pop(key, None)), found)
    return found


def _hash(*parts: bytes) -> bytes:
    sizes = ",".join([str(len(part)) for part in parts])
    return hashlib.blake2b(b"".join((sizes.encode(), b":", *parts)), digest_size=_SIZE).digest()


def _opsets(imports: Mapping[str, int]) -> bytes:
    return repr(sorted(imports.items())).encode()


def _function_digest(key: ir.OperatorIdentifier, function: ir.Function) -> bytes:
    parameters = [
        _hash(name.encode(), _ABSENT if attribute.value is None else _attribute_digest(attribute, {}))
        for name, attribute in sorted(function.attributes.items())
    ]
    body = _graph_digest(function, {}, named=False)
    return _hash(b"function", repr(key).encode(), body, _opsets(function.opset_imports), *parameters)


def _graph_digest(graph: ir.Graph | ir.Function, outer: Mapping[ir.Value, bytes], *, named: bool) -> bytes:
    known = dict(outer)
    inputs = []
    for k, value in enumerate(graph.inputs):
        known[value] = _hash(b"input", f"{k} {value.type} {value.shape} {value.name if named else ''}".encode())
        inputs.append(known[value])
    made: list[bytes] = []
    for value in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
        tensor = _ABSENT if value.const_value is None else tensor_digest(value.const_value)
        known[value] = _hash(b"tensor", tensor, known.get(value, _ABSENT))
        made.append(known[value])
    for node in _in_order(graph, known):
        found = _node_digest(node, known)
        made.append(found)
        for k, output in enumerate(node.outputs):
            known[output] = found if k == 0 else _hash(found, str(k).encode())
    outputs = [
        known.get(value, _UNMADE) + (value.name or "").encode() if named else known.get(value, _UNMADE)
        for value in graph.outputs
    ]
    return _hash(b"graph", *inputs, b"->", *outputs, b"nodes", *sorted(made))


def _in_order(graph: ir.Graph | ir.Function, known: Mapping[ir.Value, bytes]) -> Iterator[ir.Node]:
    """Each node after those it reads from. The caller adds the outputs of each to `known` before asking for more."""
    waiting: set[ir.Node] = set()
    done: set[ir.Node] = set()
    for first in graph:
        stack = [first]
        while stack:
            node = stack[-1]
            missing = [] if node in waiting else [maker for maker in _makers(node, known) if maker not in waiting]
            if missing:
                waiting.add(node)
                stack += missing
                continue
            stack.pop()
            if node not in done:
                done.add(node)
                yield node


def _makers(node: ir.Node, known: Mapping[ir.Value, bytes]) -> list[ir.Node]:
    """Nodes of the same graph that make what this one reads, itself or in a subgraph, and are not known yet."""
    read = [value for value in node.inputs if value is not None and value not in known]
    for graph in _subgraphs(node):
        read += [v for inner in graph.all_nodes() for v in inner.inputs if v is not None and v not in known]
        read += [value for value in graph.outputs if value not in known]
    makers = (value.producer() for value in read)
    return [maker for maker in makers if maker is not None and maker.graph is node.graph and maker is not node]


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def _node_digest(node: ir.Node, known: Mapping[ir.Value, bytes]) -> bytes:
    attributes = node.attributes
    parts = [f"{node.domain} {node.op_type} {node.overload} {len(node.outputs)} {len(attributes)}".encode()]
    for name in sorted(attributes):
        parts += (name.encode(), _attribute_digest(attributes[name], known))
    parts += [_ABSENT if value is None else known.get(value, _UNMADE) for value in node.inputs]
    return _hash(*parts)


def _attribute_digest(attribute: ir.Attr, known: Mapping[ir.Value, bytes]) -> bytes:
    """As the attribute is stored: a float is a float32, whatever holds it in memory."""
    if attribute.ref_attr_name:
        return b"reference " + attribute.ref_attr_name.encode()
    content = _CONTENTS.get(attribute.type)
    if content is None:
        return f"{attribute.type} {attribute.value!r}".encode()
    return _hash(attribute.type.name.encode(), *content(attribute, known))


_Content = Callable[[ir.Attr, Mapping[ir.Value, bytes]], "list[bytes]"]

_CONTENTS: Mapping[ir.AttributeType, _Content] = {
    ir.AttributeType.INT: lambda a, _: [str(int(a.value)).encode()],
    ir.AttributeType.INTS: lambda a, _: [repr([int(i) for i in a.value]).encode()],
    ir.AttributeType.FLOAT: lambda a, _: [np.float32(a.value).tobytes()],
    ir.AttributeType.FLOATS: lambda a, _: [np.asarray(a.value, np.float32).tobytes()],
    ir.AttributeType.STRING: lambda a, _: [_text(a.value)],
    ir.AttributeType.STRINGS: lambda a, _: [_text(text) for text in a.value],
    ir.AttributeType.TENSOR: lambda a, _: [tensor_digest(a.value)],
    ir.AttributeType.TENSORS: lambda a, _: [tensor_digest(tensor) for tensor in a.value],
    ir.AttributeType.GRAPH: lambda a, known: [_graph_digest(a.value, known, named=False)],
    ir.AttributeType.GRAPHS: lambda a, known: [_graph_digest(graph, known, named=False) for graph in a.value],
}


def _text(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
