"""What is known at compile time of small integer vectors that are computed from shapes.

An entry is a number, a symbol (a text: equal texts are equal numbers, never negative when they name a dimension),
or None. Dimensions without a name are called `value[axis]`, and so equal themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.passes.edit import Array, constant_array, constant_ints, input_of, ints_of, is_op

Entry = int | str | None
MAX_ENTRIES = 64
KINDS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


@dataclass(frozen=True)
class Vector:
    """entries: in order;  scalar: rank 0 instead of 1;  dtype: INT64, INT32 or BOOL"""

    entries: tuple[Entry, ...]
    scalar: bool = False
    dtype: ir.DataType = ir.DataType.INT64

    def array(self) -> Array | None:
        """The numbers when all are known."""
        if not all(isinstance(entry, int) for entry in self.entries):
            return None
        array = np.array(self.entries, dtype=self.dtype.numpy())
        return array.reshape(()) if self.scalar else array


Known = dict[ir.Value, Vector]


def dims(value: ir.Value) -> list[Entry] | None:
    """The dimensions of a value as entries; None when not even their number is known."""
    if value.shape is None:
        return None
    return [
        dim if isinstance(dim, int) else dim.value or f"{value.name}[{axis}]" for axis, dim in enumerate(value.shape)
    ]


def lookup(value: ir.Value | None, known: Known) -> Vector | None:
    """What is known of a value; small constants are read as they are met."""
    if value is None:
        return None
    if value not in known and value.is_initializer():
        array = constant_array(value)
        dtype = value.const_value.dtype if value.const_value is not None else None
        if array is not None and array.ndim <= 1 and array.size <= MAX_ENTRIES and dtype in KINDS:
            known[value] = Vector(tuple(int(x) for x in array.reshape(-1)), array.ndim == 0, dtype)
    return known.get(value)


def interpret(node: ir.Node, known: Known) -> None:
    """Note what `node` makes of what is known of its inputs."""
    rule = RULES.get(node.op_type)
    if rule is None or not is_op(node, node.op_type) or len(node.outputs) != 1:
        return
    found = rule(node, known)
    if found is not None and len(found.entries) <= MAX_ENTRIES:
        known[node.outputs[0]] = found


def _shape(node: ir.Node, known: Known) -> Vector | None:
    all_dims = dims(node.inputs[0]) if node.inputs[0] is not None else None
    if all_dims is None:
        return None
    end = node.attributes.get("end")
    return Vector(tuple(all_dims[node.attributes.get_int("start", 0) : end.as_int() if end else None]))


def _size(node: ir.Node, known: Known) -> Vector | None:
    all_dims = dims(node.inputs[0]) if node.inputs[0] is not None else None
    numbers = [d for d in all_dims if isinstance(d, int)] if all_dims is not None else None
    if numbers is None or all_dims is None or len(numbers) < len(all_dims):
        return None
    return Vector((int(np.prod(numbers, dtype=np.int64)),), scalar=True)


def _gather(node: ir.Node, known: Known) -> Vector | None:
    data, indices = lookup(node.inputs[0], known), lookup(node.inputs[1], known)
    if data is None or data.scalar or indices is None or node.attributes.get_int("axis", 0) not in (0, -1):
        return None
    picks = [i for i in indices.entries if isinstance(i, int) and -len(data.entries) <= i < len(data.entries)]
    if len(picks) < len(indices.entries):
        return None
    return Vector(tuple(data.entries[i] for i in picks), indices.scalar, data.dtype)


def _slice(node: ir.Node, known: Known) -> Vector | None:
    data = lookup(node.inputs[0], known)
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    steps = constant_ints(input_of(node, 4)) if input_of(node, 4) is not None else [1]
    if data is None or data.scalar or not starts or not ends or not steps or len(starts) != 1:
        return None
    size = len(data.entries)
    start, end = (int(np.clip(x, -size - 1, size)) for x in (starts[0], ends[0]))
    if steps[0] < 0:
        return None
    return Vector(data.entries[start : end : steps[0]], False, data.dtype)


def _concat(node: ir.Node, known: Known) -> Vector | None:
    parts = [lookup(value, known) for value in node.inputs]
    entries: tuple[Entry, ...] = ()
    dtype = ir.DataType.INT64
    for part in parts:
        if part is None or part.scalar:
            return None
        entries, dtype = entries + part.entries, part.dtype
    return Vector(entries, False, dtype)


def _to_vector(node: ir.Node, known: Known) -> Vector | None:
    """Unsqueeze of a scalar; a vector would become a matrix."""
    data = lookup(node.inputs[0], known)
    axes = ints_of(node, "axes", 1)
    return Vector(data.entries, False, data.dtype) if data and data.scalar and axes and len(axes) == 1 else None


def _to_scalar(node: ir.Node, known: Known) -> Vector | None:
    data = lookup(node.inputs[0], known)
    return Vector(data.entries, True, data.dtype) if data and len(data.entries) == 1 else None


def _reshape(node: ir.Node, known: Known) -> Vector | None:
    data, shape = lookup(node.inputs[0], known), lookup(input_of(node, 1), known)
    if data is None or shape is None or shape.scalar or len(shape.entries) > 1:
        return None
    return Vector(data.entries, len(shape.entries) == 0, data.dtype)


def _identity(node: ir.Node, known: Known) -> Vector | None:
    return lookup(node.inputs[0], known)


def _cast(node: ir.Node, known: Known) -> Vector | None:
    data, to = lookup(node.inputs[0], known), node.attributes.get("to")
    if data is None or to is None or to.is_ref() or to.type != ir.AttributeType.INT:
        return None
    dtype = ir.DataType(to.as_int())
    fits = all(isinstance(e, str) or (isinstance(e, int) and abs(e) < 2**31) for e in data.entries)
    if dtype == ir.DataType.INT64 or (dtype == ir.DataType.INT32 and fits):
        return Vector(data.entries, data.scalar, dtype)
    return None


def _pairs(a: Vector, b: Vector) -> list[tuple[Entry, Entry]] | None:
    """Broadcast two vectors."""
    count = max(len(a.entries), len(b.entries))
    if any(len(v.entries) not in (1, count) for v in (a, b)):
        return None
    wide = [v.entries * count if len(v.entries) == 1 else v.entries for v in (a, b)]
    return list(zip(*wide, strict=True))


def _binary(function: Callable[[Entry, Entry], Entry], boolean: bool = False) -> Callable[..., Vector | None]:
    def rule(node: ir.Node, known: Known) -> Vector | None:
        a, b = lookup(node.inputs[0], known), lookup(node.inputs[1], known)
        pairs = _pairs(a, b) if a is not None and b is not None else None
        if a is None or b is None or pairs is None:
            return None
        entries = tuple(function(x, y) for x, y in pairs)
        return Vector(entries, a.scalar and b.scalar, ir.DataType.BOOL if boolean else a.dtype)

    return rule


def _add(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return x if y == 0 else y if x == 0 else _expression("+", *sorted((x, y), key=str))


def _subtract(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x - y
    return x if y == 0 else _expression("-", x, y)


def _multiply(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    return x if y == 1 else y if x == 1 else _expression("*", *sorted((x, y), key=str))


def _divide(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x // y if x >= 0 and y > 0 else None
    return x if y == 1 else _expression("/", x, y)


def _expression(operator: str, x: Entry, y: Entry) -> Entry:
    """A symbol for a result that is not known as a number; kept short, so that chains stay linear."""
    if x is None or y is None:
        return None
    text = f"({x}{operator}{y})"
    return text if len(text) <= 120 else None


def _equal(x: Entry, y: Entry) -> Entry:
    """A dimension is never negative; an expression (in parentheses) may be."""
    if isinstance(x, int) and isinstance(y, int):
        return int(x == y)
    symbol, number = (x, y) if isinstance(x, str) else (y, x)
    if isinstance(symbol, str) and not symbol.startswith("(") and isinstance(number, int) and number < 0:
        return 0
    return 1 if isinstance(x, str) and x == y else None


def _where(node: ir.Node, known: Known) -> Vector | None:
    condition, a, b = (lookup(value, known) for value in node.inputs)
    if condition is None or a is None or b is None:
        return None
    count = max(len(v.entries) for v in (condition, a, b))
    if any(len(v.entries) not in (1, count) for v in (condition, a, b)):
        return None
    c, x, y = (v.entries * count if len(v.entries) == 1 else v.entries for v in (condition, a, b))
    chosen = tuple(None if take is None else (i if take else j) for take, i, j in zip(c, x, y, strict=True))
    return Vector(chosen, condition.scalar and a.scalar and b.scalar, a.dtype)


RULES: Mapping[str, Callable[[ir.Node, Known], Vector | None]] = {
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
    "Add": _binary(_add),
    "Sub": _binary(_subtract),
    "Mul": _binary(_multiply),
    "Div": _binary(_divide),
    "Equal": _binary(_equal, boolean=True),
    "Where": _where,
}
