"""Compare two graphs by structure, for tests that state a graph as text."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

CLOSE = 1e-5


def difference(graph: ir.Graph, wanted: ir.Graph) -> str:
    """Where `graph` differs from `wanted`, or an empty text.

    Compared backwards from the outputs; names count for inputs and outputs only. A value of `wanted` that nothing
    makes and nobody declares stands for any initializer.
    """
    found, expected = len(graph), len(wanted)
    if found != expected:
        ops = ", ".join(node.op_type for node in graph)
        return f"{found} nodes ({ops}) where {expected} are wanted"
    names = [[value.name for value in (*g.inputs, *g.outputs)] for g in (graph, wanted)]
    if names[0] != names[1]:
        return f"inputs and outputs are {names[0]}, wanted {names[1]}"
    matched: dict[ir.Value, ir.Value] = {}
    for a, b in zip(graph.outputs, wanted.outputs, strict=True):
        reason = _compare(a, b, matched)
        if reason:
            return reason
    return ""


def _compare(a: ir.Value | None, b: ir.Value | None, matched: dict[ir.Value, ir.Value]) -> str:
    if a is None or b is None:
        return "" if a is b else f"input {b.name if b else None} is {a.name if a else None}"
    if b in matched:
        return "" if matched[b] is a else f"'{b.name}' stands for '{matched[b].name}' and for '{a.name}'"
    matched[b] = a
    producer, wanted = a.producer(), b.producer()
    if wanted is not None:
        return _compare_nodes(producer, wanted, matched) if producer else f"'{a.name}' is not made by {wanted.op_type}"
    if b.is_graph_input():
        return "" if a.is_graph_input() and a.name == b.name else f"'{a.name}' where input '{b.name}' is wanted"
    if not a.is_initializer() or a.const_value is None:
        return f"'{a.name}' is no constant"
    if b.const_value is None:
        return ""
    return _compare_tensors(a.const_value, b.const_value, a.name or "")


def _compare_nodes(a: ir.Node, b: ir.Node, matched: dict[ir.Value, ir.Value]) -> str:
    if a.op_identifier() != b.op_identifier():
        return f"{a.op_type} where {b.op_type} is wanted"
    if set(a.attributes) != set(b.attributes):
        return f"{a.op_type} has attributes {sorted(a.attributes)}, wanted {sorted(b.attributes)}"
    for name, attribute in a.attributes.items():
        reason = _compare_attributes(attribute, b.attributes[name])
        if reason:
            return f"{a.op_type}.{name}: {reason}"
    if len(a.inputs) != len(b.inputs):
        return f"{a.op_type} has {len(a.inputs)} inputs, wanted {len(b.inputs)}"
    reasons = (_compare(x, y, matched) for x, y in zip(a.inputs, b.inputs, strict=True))
    return next((reason for reason in reasons if reason), "")


def _compare_attributes(a: ir.Attr, b: ir.Attr) -> str:
    if a.type == ir.AttributeType.TENSOR == b.type:
        return _compare_tensors(a.as_tensor(), b.as_tensor(), a.name)
    if a.type == ir.AttributeType.GRAPH == b.type:
        return difference(a.as_graph(), b.as_graph())
    if a.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        return "" if np.allclose(a.value, b.value, rtol=CLOSE, atol=0) else f"{a.value}, wanted {b.value}"
    return "" if a.value == b.value else f"{a.value}, wanted {b.value}"


def _compare_tensors(a: ir.TensorProtocol, b: ir.TensorProtocol, name: str) -> str:
    x, y = a.numpy(), b.numpy()
    if a.dtype != b.dtype or x.shape != y.shape:
        return f"'{name}' is {a.dtype}{list(x.shape)}, wanted {b.dtype}{list(y.shape)}"
    numeric = np.issubdtype(x.dtype, np.number)
    close = np.allclose(x, y, rtol=CLOSE, atol=CLOSE, equal_nan=True) if numeric else np.array_equal(x, y)
    return "" if close else f"'{name}' is {x.tolist()}, wanted {y.tolist()}"
