"""Write a model with its weights inside, one weight at a time: neither the protobuf nor its bytes are ever whole.

    model = (field)* graph        graph = tag(7) length (field)* (initializer)*
                                  initializer = tag(5) length (field)* tag(9) length bytes

Fields of a message may come in any order, so the large initializers of the main graph are written last.
"""

from __future__ import annotations

from typing import BinaryIO

import onnx
import onnx_ir as ir

from lwc.compiler.core.external import contents
from lwc.compiler.core.skeleton import KEPT_BYTES, standing_in
from lwc.compiler.core.wire import BYTES, GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW_DATA, varint


def write_inline(model: ir.Model, file: BinaryIO) -> None:
    """Write the model, less than 2 GB in all; tensors are asked for their bytes one after the other."""
    large = {
        value: value.const_value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.nbytes >= KEPT_BYTES
        and value.const_value.dtype != ir.DataType.STRING
    }
    with standing_in({value: _stub(value, tensor) for value, tensor in large.items()}):
        proto = ir.to_proto(model)
    by_name = {value.name: tensor for value, tensor in large.items()}
    heads = [(_head(tensor), by_name[tensor.name]) for tensor in proto.graph.initializer if tensor.name in by_name]
    small = [tensor for tensor in proto.graph.initializer if tensor.name not in by_name]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    size = len(graph) + sum(_field_size(len(head) + _field_size(tensor.nbytes)) for head, tensor in heads)
    file.write(proto.SerializeToString(deterministic=True) + _opening(MODEL_GRAPH, size) + graph)
    for head, tensor in heads:
        file.write(_opening(GRAPH_INITIALIZER, len(head) + _field_size(tensor.nbytes)) + head)
        file.write(_opening(TENSOR_RAW_DATA, tensor.nbytes))
        file.write(contents(tensor))


def _stub(value: ir.Value, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        "absent", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=value.name or "",
        doc_string=tensor.doc_string, metadata_props=dict(tensor.metadata_props),
    )  # fmt: skip


def _head(tensor: onnx.TensorProto) -> bytes:
    """All of the tensor but its bytes."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    head: bytes = tensor.SerializeToString(deterministic=True)
    return head


def _opening(number: int, size: int) -> bytes:
    return varint(number << 3 | BYTES) + varint(size)


def _field_size(size: int) -> int:
    """Of a field of so many bytes, its tag and length too; ONNX's field numbers here take one byte."""
    return 1 + len(varint(size)) + size
