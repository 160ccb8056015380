"""Protobuf wire format: take a model's large weights out of its bytes before they are parsed.

    message = (tag value)*      tag = varint(field << 3 | type)      type 2: varint(length) bytes

Parsing copies every weight; walking the fields of ModelProto.graph.initializer costs O(nodes) and leaves the weights
where they are, in the mapped file. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MODEL_GRAPH = 7
GRAPH_INITIALIZER = 5
TENSOR_RAW_DATA = 9

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class MalformedWire(ValueError):
    """The bytes end inside a field, or hold a field type that ONNX does not use."""


@dataclass(frozen=True)
class Span:
    """Bytes of the file."""

    start: int
    end: int


@dataclass(frozen=True)
class Stripped:
    """skeleton: the message without large weights;  weights: number of an initializer -> where its raw_data lies."""

    skeleton: bytes
    weights: dict[int, Span]


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    start: int
    body: int
    end: int


def strip_weights(data: memoryview, at_least: int) -> Stripped:
    """Take raw_data of `at_least` bytes or more out of the main graph's initializers. Raises MalformedWire."""
    weights: dict[int, Span] = {}
    pieces: list[bytes | memoryview] = []
    count = 0
    for field in _fields(data, 0, len(data)):
        if field.number == MODEL_GRAPH and field.kind == BYTES:
            graph, count = _strip_graph(data, field, at_least, weights, count)
            pieces += _enclosed(data, field, graph)
        else:
            pieces.append(data[field.start : field.end])
    return Stripped(b"".join(pieces), weights)


def _strip_graph(
    data: memoryview, graph: _Field, at_least: int, weights: dict[int, Span], count: int
) -> tuple[list[bytes | memoryview], int]:
    """`count` numbers the initializers: a message may hold the graph in parts, which parsing merges."""
    pieces: list[bytes | memoryview] = []
    for field in _fields(data, graph.body, graph.end):
        if field.number == GRAPH_INITIALIZER and field.kind == BYTES:
            inner = list(_fields(data, field.body, field.end)) if field.end - field.body >= at_least else []
            raw = [f for f in inner if f.number == TENSOR_RAW_DATA and f.kind == BYTES]
            if len(raw) == 1 and raw[0].end - raw[0].body >= at_least:
                weights[count] = Span(raw[0].body, raw[0].end)
                pieces += _enclosed(data, field, [data[f.start : f.end] for f in inner if f is not raw[0]])
            else:
                pieces.append(data[field.start : field.end])
            count += 1
        else:
            pieces.append(data[field.start : field.end])
    return pieces, count


def _enclosed(
    data: memoryview, field: _Field, pieces: list[bytes | memoryview]
) -> list[bytes | memoryview]:
    tag = varint(field.number << 3 | BYTES)
    return [tag, varint(sum(len(piece) for piece in pieces)), *pieces]


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    at = start
    while at < end:
        tag, body = _read_varint(data, at, end)
        kind = tag & 7
        if kind == VARINT:
            _, stop = _read_varint(data, body, end)
        elif kind == BYTES:
            length, body = _read_varint(data, body, end)
            stop = body + length
        elif kind in (FIXED32, FIXED64):
            stop = body + (4 if kind == FIXED32 else 8)
        else:
            raise MalformedWire(f"field type {kind} at byte {at}")
        if stop > end or tag >> 3 == 0:
            raise MalformedWire(f"the field at byte {at} ends after its message")
        yield _Field(tag >> 3, kind, at, body, stop)
        at = stop


def _read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedWire(f"no number ends at byte {at}")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
