"""What may be written in several ways is brought to one before the graph is built.

'ai.onnx' is the standard domain's other name; sparse weights become dense, as onnx_ir holds no others; notes on
intermediate maps go, as it has no type for them; documentation in another encoding is made legible; dimensions of -1
and '?', which Paddle's exporter writes for unknown ones, are left open: ONNX's inference aborts on a size below 0, and
takes all that are called '?' for equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import numpy_helper

from lwc.compiler.core.errors import InvalidGraph

_ALIAS = "ai.onnx"
_REMARKS = ("doc_string", "value")  # fields that nothing is looked up by: documentation, metadata
_DENSE_VALUES = 1 << 28  # a sparse tensor of a few bytes may claim any shape


def normalize(proto: onnx.ModelProto) -> None:
    """Bring the model to normal form, in place.

    Raises InvalidGraph for names that are no text, and for sparse weights that make no sense.
    """
    _decode(proto)
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in imports:
            if entry.domain == _ALIAS:
                entry.domain = ""
    for nodes in (function.node for function in proto.functions):
        for node in nodes:
            _normalize_node(node)
    _normalize_graph(proto.graph)


def _decode(message: Message) -> None:
    """protobuf gives a string field that is no UTF-8 as bytes."""
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _decode(part)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]:
                if isinstance(text, bytes):
                    if field.name not in _REMARKS:
                        raise InvalidGraph(f"The {field.name} {text!r} is no text: names must be UTF-8.")
                    setattr(message, field.name, text.decode("utf-8", "replace"))


def _normalize_graph(graph: onnx.GraphProto) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse))
    del graph.sparse_initializer[:]
    kept = [info for info in graph.value_info if not holds_map(info.type)]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)
    for info in (*graph.input, *graph.value_info, *graph.output):
        _open_dimensions(info.type)
    for node in graph.node:
        _normalize_node(node)


def _normalize_node(node: onnx.NodeProto) -> None:
    if node.domain == _ALIAS:
        node.domain = ""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.SPARSE_TENSOR and node.op_type == "Constant" and not node.domain:
            dense = _dense(attribute.sparse_tensor)
            attribute.Clear()
            attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
            attribute.t.CopyFrom(dense)
        for graph in _graphs(attribute):
            _normalize_graph(graph)


def _open_dimensions(kind: onnx.TypeProto) -> None:
    """Forget negative sizes and names without a letter, also of what sequences and optionals hold."""
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        _open_dimensions(getattr(kind, which).elem_type)
    elif which in ("tensor_type", "sparse_tensor_type"):
        for dim in getattr(kind, which).shape.dim:
            if dim.dim_value < 0 or not any(map(str.isalpha, dim.dim_param or "named")):
                dim.Clear()


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def holds_map(kind: onnx.TypeProto) -> bool:
    """Whether this is a map or a sequence of maps."""
    return kind.HasField("map_type") or (kind.HasField("sequence_type") and holds_map(kind.sequence_type.elem_type))


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """values: [n]; indices: [n] into the flat tensor, or [n, rank]."""
    name = sparse.values.name
    shape = tuple(sparse.dims)
    if any(size < 0 for size in shape) or math.prod(shape) > _DENSE_VALUES:
        raise InvalidGraph(f"Sparse tensor '{name}' has the shape {list(shape)}, which is not for one in memory.")
    try:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
        flat = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
        dense = np.zeros(math.prod(shape), values.dtype)
        dense[flat] = values
    except (ValueError, TypeError, IndexError, onnx.checker.ValidationError) as error:
        raise InvalidGraph(f"Sparse tensor '{name}' has data that do not fit its shape {list(shape)}.") from error
    return numpy_helper.from_array(dense.reshape(shape), name)
