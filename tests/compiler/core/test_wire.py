"""Weights are taken out of the bytes without changing what else the bytes say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from lwc.compiler.core.wire import MalformedWire, strip_weights


def proto_with(sizes: list[int]) -> onnx.ModelProto:
    proto = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Neg(x) }')
    rng = np.random.default_rng(0)
    proto.graph.initializer.extend(
        numpy_helper.from_array(rng.integers(0, 255, size).astype(np.uint8), f"w{k}") for k, size in enumerate(sizes)
    )
    return proto


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 300), max_size=6), at_least=st.integers(1, 300))
def test_puts_back_to_the_same_model(sizes: list[int], at_least: int) -> None:
    proto = proto_with(sizes)
    data = memoryview(proto.SerializeToString())
    stripped = strip_weights(data, at_least)
    assert set(stripped.weights) == {k for k, size in enumerate(sizes) if size >= at_least}
    again = onnx.ModelProto.FromString(stripped.skeleton)
    for k, span in stripped.weights.items():
        assert not again.graph.initializer[k].HasField("raw_data")
        again.graph.initializer[k].raw_data = bytes(data[span.start : span.end])
    assert again == proto


def test_numbers_initializers_across_parts_of_a_graph() -> None:
    """Two encoded messages one after the other are one message: protobuf merges them."""
    parts = [proto_with([10, 200]), proto_with([300])]
    data = memoryview(b"".join(part.SerializeToString() for part in parts))
    stripped = strip_weights(data, 100)
    merged = onnx.ModelProto.FromString(bytes(data))
    assert set(stripped.weights) == {1, 2}
    for k, span in stripped.weights.items():
        assert merged.graph.initializer[k].raw_data == data[span.start : span.end]


def test_leaves_a_tensor_with_two_raw_data_to_protobuf() -> None:
    tensor = onnx.TensorProto(raw_data=bytes(100)).SerializeToString() * 2
    graph = b"\x2a" + bytes([len(tensor) & 0x7F | 0x80, len(tensor) >> 7]) + tensor
    data = b"\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph
    assert onnx.ModelProto.FromString(data).graph.initializer[0].raw_data == bytes(100)
    stripped = strip_weights(memoryview(data), 50)
    assert stripped.weights == {}
    assert stripped.skeleton == data


@pytest.mark.parametrize(
    "data",
    [b"\x3a\x05abc", b"\x3a", b"\x0b", b"\x0c", b"\xff" * 12, b"\x00\x01", b"\x0d\x01", b"\x3a\x02\x2a\x05"],
)
def test_refuses_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MalformedWire):
        strip_weights(memoryview(data), 1)


def test_skips_numbers_of_all_kinds() -> None:
    data = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x01a"
    assert strip_weights(memoryview(data), 1).skeleton == data
