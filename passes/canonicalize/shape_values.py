"""What nodes make of small integer vectors that are computed from shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from lwc.passes.canonicalize.dimensions import Entry, add, divide, equal, multiply, product, subtract
from lwc.passes.canonicalize.shape_facts import MAX_ENTRIES, Facts, Vector
from lwc.passes.edit import constant_ints, input_of, ints_of, is_op

Rule = Callable[[ir.Node, Facts], Vector | None]


def note_vector(node: ir.Node, facts: Facts) -> None:
    """Note what `node` makes of what is known of its inputs."""
    rule = RULES.get(node.op_type)
    if rule is None or not is_op(node, node.op_type) or len(node.outputs) != 1:
        return
    found = rule(node, facts)
    if found is not None and len(found.entries) <= MAX_ENTRIES:
        facts.vectors[node.outputs[0]] = found


def _shape(node: ir.Node, facts: Facts) -> Vector | None:
    dims = facts.dims_of(node.inputs[0])
    if dims is None:
        return None
    end = node.attributes.get("end")
    return Vector(tuple(dims[node.attributes.get_int("start", 0) : end.as_int() if end else None]))


def _size(node: ir.Node, facts: Facts) -> Vector | None:
    dims = facts.dims_of(node.inputs[0])
    return None if dims is None else Vector((product(dims),), scalar=True)


def _gather(node: ir.Node, facts: Facts) -> Vector | None:
    data, indices = facts.vector_of(node.inputs[0]), facts.vector_of(node.inputs[1])
    if data is None or data.scalar or indices is None or node.attributes.get_int("axis", 0) not in (0, -1):
        return None
    picks = [i for i in indices.entries if isinstance(i, int) and -len(data.entries) <= i < len(data.entries)]
    if len(picks) < len(indices.entries):
        return None
    return Vector(tuple(data.entries[i] for i in picks), indices.scalar, data.dtype)


def _slice(node: ir.Node, facts: Facts) -> Vector | None:
    data = facts.vector_of(node.inputs[0])
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    steps = constant_ints(input_of(node, 4)) if input_of(node, 4) is not None else [1]
    if data is None or data.scalar or not starts or not ends or not steps or len(starts) != 1 or steps[0] < 1:
        return None
    size = len(data.entries)
    start, end = (int(np.clip(x, -size - 1, size)) for x in (starts[0], ends[0]))
    return Vector(data.entries[start : end : steps[0]], False, data.dtype)


def _concat(node: ir.Node, facts: Facts) -> Vector | None:
    entries: tuple[Entry, ...] = ()
    dtype = ir.DataType.INT64
    for value in node.inputs:
        part = facts.vector_of(value)
        if part is None or part.scalar:
            return None
        entries, dtype = entries + part.entries, part.dtype
    return Vector(entries, False, dtype)


def _to_vector(node: ir.Node, facts: Facts) -> Vector | None:
    """Unsqueeze of a scalar; a vector would become a matrix."""
    data = facts.vector_of(node.inputs[0])
    axes = ints_of(node, "axes", 1)
    return Vector(data.entries, False, data.dtype) if data and data.scalar and axes and len(axes) == 1 else None


def _to_scalar(node: ir.Node, facts: Facts) -> Vector | None:
    data = facts.vector_of(node.inputs[0])
    return Vector(data.entries, True, data.dtype) if data and len(data.entries) == 1 else None


def _reshape(node: ir.Node, facts: Facts) -> Vector | None:
    data, shape = facts.vector_of(node.inputs[0]), facts.vector_of(input_of(node, 1))
    if data is None or shape is None or shape.scalar or len(shape.entries) > 1:
        return None
    return Vector(data.entries, len(shape.entries) == 0, data.dtype)


def _identity(node: ir.Node, facts: Facts) -> Vector | None:
    return facts.vector_of(node.inputs[0])


def _cast(node: ir.Node, facts: Facts) -> Vector | None:
    data, to = facts.vector_of(node.inputs[0]), node.attributes.get("to")
    if data is None or to is None or to.is_ref() or to.type != ir.AttributeType.INT:
        return None
    dtype = ir.DataType(to.as_int())
    fits = not any(isinstance(e, int) and abs(e) >= 2**31 for e in data.entries)
    if dtype == ir.DataType.INT64 or (dtype == ir.DataType.INT32 and fits):
        return Vector(data.entries, data.scalar, dtype)
    return None


def _binary(function: Callable[[Entry, Entry], Entry], boolean: bool = False) -> Rule:
    def rule(node: ir.Node, facts: Facts) -> Vector | None:
        a, b = facts.vector_of(node.inputs[0]), facts.vector_of(node.inputs[1])
        columns = _aligned(a, b)
        if a is None or b is None or columns is None:
            return None
        entries = tuple(function(x, y) for x, y in zip(*columns, strict=True))
        return Vector(entries, a.scalar and b.scalar, ir.DataType.BOOL if boolean else a.dtype)

    return rule


def _aligned(*vectors: Vector | None) -> list[tuple[Entry, ...]] | None:
    """The entries broadcast to one length."""
    found = [vector for vector in vectors if vector is not None]
    count = max((len(v.entries) for v in found), default=0)
    if len(found) < len(vectors) or any(len(v.entries) not in (1, count) for v in found):
        return None
    return [v.entries * count if len(v.entries) == 1 else v.entries for v in found]


def _where(node: ir.Node, facts: Facts) -> Vector | None:
    condition, a, b = (facts.vector_of(value) for value in node.inputs)
    columns = _aligned(condition, a, b)
    if condition is None or a is None or b is None or columns is None:
        return None
    chosen = tuple(None if c is None else (x if c else y) for c, x, y in zip(*columns, strict=True))
    return Vector(chosen, condition.scalar and a.scalar and b.scalar, a.dtype)


def _reduce_product(node: ir.Node, facts: Facts) -> Vector | None:
    data = facts.vector_of(node.inputs[0])
    if data is None or data.scalar or ints_of(node, "axes", 1) not in ([], [0], [-1]):
        return None
    keeps = node.attributes.get_int("keepdims", 1)
    return None if node.attributes.get_int("noop_with_empty_axes", 0) else Vector(
        (product(data.entries),), not keeps, data.dtype
    )


RULES: Mapping[str, Rule] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _to_vector,
    "Squeeze": _to_scalar,
    "Reshape": _reshape,
    "Identity": _identity,
    "Cast": _cast,
    "Add": _binary(add),
    "Sub": _binary(subtract),
    "Mul": _binary(multiply),
    "Div": _binary(divide),
    "Equal": _binary(equal, boolean=True),
    "Where": _where,
    "ReduceProd": _reduce_product,
}
