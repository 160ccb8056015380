"""A model's protobuf without the bytes of its large weights, for libraries that copy all they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx
import onnx_ir as ir

KEPT_BYTES = 1 << 10  # shapes, axes and scales are smaller, and inference looks at them


Root = ir.Graph | ir.Function


def roots(model: ir.Model) -> tuple[Root, ...]:
    """The main graph and the functions: together with their subgraphs, all there is."""
    return (model.graph, *model.functions.values())


def initialized(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Initializers with their tensors: of the main graph, of subgraphs, and of subgraphs in functions."""
    for root in roots(model):
        for graph in (root, *root.subgraphs()):
            for value in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
                if value.const_value is not None:
                    yield value, value.const_value


@contextmanager
def standing_in(stubs: Mapping[ir.Value, ir.TensorProtocol]) -> Iterator[None]:
    """Other tensors in these values while the block runs."""
    kept = {value: value.const_value for value in stubs}
    try:
        for value, stub in stubs.items():
            value.const_value = stub
        yield
    finally:
        for value, tensor in kept.items():
            value.const_value = tensor


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model with every initializer of 1 KB or more as a reference to a file that does not exist."""
    stubs = {
        value: ir.ExternalTensor(
            "absent", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=value.name or ""
        )
        for value, tensor in initialized(model)
        if tensor.nbytes >= KEPT_BYTES and tensor.dtype != ir.DataType.STRING
    }
    with standing_in(stubs):
        return ir.to_proto(model)
