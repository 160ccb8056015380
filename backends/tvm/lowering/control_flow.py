"""Nodes with subgraphs: loops of a known count unrolled, branches kept as branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from tvm import relax

from lwc.backends.tvm.lowering.expressions import Value, array_of, const, dims_of, stacked

MOST_ITERATIONS = 1024


class Walker(Protocol):
    """The importer, as far as rules with subgraphs need it."""

    bb: relax.BlockBuilder
    opset: int

    def body(self, graph: onnx.GraphProto, given: dict[str, Value]) -> list[Value]:
        """The outputs of a subgraph whose inputs are `given`."""


def branch(walker: Walker, inputs: Sequence[Value | None], attrs: dict[str, Any]) -> list[Value]:
    """If: the branch that is taken where the condition is constant, else both as they are."""
    condition = array_of(inputs[0])
    if condition is not None:
        return walker.body(attrs["then_branch" if condition.reshape(-1)[0] else "else_branch"], {})
    flag = inputs[0] if not dims_of(inputs[0]) else relax.op.reshape(inputs[0], [])
    flag = walker.bb.emit(flag) if not isinstance(flag, relax.Var) else flag
    parts = [_sequence(walker, attrs[name]) for name in ("then_branch", "else_branch")]
    result = walker.bb.emit(relax.If(flag, *parts))
    count = len(attrs["then_branch"].output)
    return [result] if count == 1 else [walker.bb.emit(relax.TupleGetItem(result, k)) for k in range(count)]


def _sequence(walker: Walker, graph: onnx.GraphProto) -> relax.SeqExpr:
    """A branch with bindings of its own, so that they are computed only when it is taken."""
    walker.bb._begin_binding_block()
    outputs = walker.body(graph, {})
    result = walker.bb.normalize(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    bound = result if isinstance(result, relax.Var) else walker.bb.emit(result)
    return relax.SeqExpr([walker.bb._end_block()], bound)


def loop(walker: Walker, inputs: Sequence[Value | None], attrs: dict[str, Any]) -> list[Value]:
    """Loop: as many copies of its body as it has iterations, which must be known at compile time."""
    graph = attrs["body"]
    given = [value.name for value in graph.input]
    condition: Value | None = inputs[1]
    carried = list(inputs[2 : len(given)])
    scans: list[list[Value]] = [[] for _ in graph.output[1 + len(carried) :]]
    for step in range(_trips(inputs[0])):
        flag = np.asarray(True) if condition is None else array_of(condition)
        if flag is None:
            raise NotImplementedError("when it ends depends on data.")
        if not flag.reshape(-1)[0]:
            break
        if step == MOST_ITERATIONS:
            raise NotImplementedError(f"it has over {MOST_ITERATIONS} iterations.")
        now = condition if condition is not None else const(True)
        outputs = walker.body(graph, dict(zip(given, [const(step, "int64"), now, *carried], strict=True)))
        condition, carried = outputs[0], [_held(walker, value) for value in outputs[1 : 1 + len(carried)]]
        for scan, value in zip(scans, outputs[1 + len(carried) :], strict=True):
            scan.append(_held(walker, value))
    return [*carried, *(_stacked(scan, 0) for scan in scans)]


def _trips(count: Value | None) -> int:
    if count is None:
        return MOST_ITERATIONS + 1
    known = array_of(count)
    if known is None:
        raise NotImplementedError("its trip count must be constant.")
    return int(known.reshape(-1)[0])


def scan(walker: Walker, inputs: Sequence[Value | None], attrs: dict[str, Any]) -> list[Value]:
    """Scan: one copy of its body for each slice."""
    if walker.opset < 9:
        raise NotImplementedError("Scan had a batch dimension before opset 9.")
    graph, count = attrs["body"], attrs["num_scan_inputs"]
    given = [value.name for value in graph.input]
    states, scanned = list(inputs[: len(given) - count]), list(inputs[len(given) - count : len(given)])
    outputs = len(graph.output) - len(states)
    ways = attrs.get("scan_input_directions", (0,) * count), attrs.get("scan_output_directions", (0,) * outputs)
    axes = attrs.get("scan_input_axes", (0,) * count), attrs.get("scan_output_axes", (0,) * outputs)
    length = dims_of(scanned[0])[axes[0][0]]
    if not isinstance(length, int) or not 0 < length <= MOST_ITERATIONS:
        raise NotImplementedError(f"its length {length} must be known, and at most {MOST_ITERATIONS}.")
    scans: list[list[Value]] = [[] for _ in range(outputs)]
    for step in range(length):
        places = [length - 1 - step if way else step for way in ways[0]]
        slices = [_slice(walker, v, p, axis) for v, p, axis in zip(scanned, places, axes[0], strict=True)]
        results = walker.body(graph, dict(zip(given, [*states, *slices], strict=True)))
        states = [_held(walker, value) for value in results[: len(states)]]
        for made, value in zip(scans, results[len(states) :], strict=True):
            made.append(_held(walker, value))
    ordered = [made[::-1] if way else made for made, way in zip(scans, ways[1], strict=True)]
    return [*states, *(_stacked(made, axis) for made, axis in zip(ordered, axes[1], strict=True))]


def _slice(walker: Walker, value: Value, place: int, axis: int) -> Value:
    return walker.bb.emit(relax.op.take(value, const(place, "int64"), axis=axis))


def _held(walker: Walker, value: Value) -> Value:
    """A value bound to a name, so that its readers share one computation."""
    unbound = isinstance(value, relax.Expr) and not isinstance(value, (relax.Var, relax.Tuple))
    return walker.bb.emit(value) if unbound and array_of(value) is None else value


def _stacked(values: Sequence[Value], axis: int) -> Value:
    if not values:
        raise NotImplementedError("it runs no iteration, and the shape of its results is unknown.")
    rank = len(dims_of(values[0])) + 1
    place = axis % rank
    return stacked(values, place)
