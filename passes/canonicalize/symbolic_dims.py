"""The dimensions of a node's result from those of its inputs, by symbol, where ONNX's shape inference loses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from lwc.passes.canonicalize.dimensions import Entry, broadcast, divide, product
from lwc.passes.canonicalize.shape_facts import Facts
from lwc.passes.edit import input_of, ints_of, is_op

Dims = list[Entry]
Rule = Callable[[ir.Node, Facts], Dims | None]


def note_dims(node: ir.Node, facts: Facts) -> None:
    """Note the dimensions of the first output."""
    rule = RULES.get(node.op_type)
    if rule is not None and is_op(node, node.op_type):
        facts.note_dims(node.outputs[0], rule(node, facts))


def _same(node: ir.Node, facts: Facts) -> Dims | None:
    return facts.dims_of(input_of(node, 0))


def broadcast_all(shapes: Sequence[Dims | None]) -> Dims | None:
    """What shapes broadcast to together; None when the rank of one is unknown."""
    result: Dims = []
    for dims in shapes:
        if dims is None:
            return None
        result = _broadcast(result, dims)
    return result


def _broadcast_inputs(node: ir.Node, facts: Facts) -> Dims | None:
    return broadcast_all([facts.dims_of(value) for value in node.inputs])


def _broadcast(a: Dims, b: Dims) -> Dims:
    count = max(len(a), len(b))
    ones: Dims = [1]
    wide = [ones * (count - len(dims)) + dims for dims in (a, b)]
    return [broadcast(x, y) for x, y in zip(*wide, strict=True)]


def _transpose(node: ir.Node, facts: Facts) -> Dims | None:
    dims = facts.dims_of(node.inputs[0])
    if dims is None:
        return None
    axes = node.attributes.get_ints("perm", tuple(range(len(dims)))[::-1])
    return [dims[axis] for axis in axes] if len(axes) == len(dims) else None


def _reshape(node: ir.Node, facts: Facts) -> Dims | None:
    """0 copies a dimension, -1 is what is left."""
    dims, wanted = facts.dims_of(node.inputs[0]), facts.vector_of(input_of(node, 1))
    if wanted is None or wanted.scalar:
        return None
    zero_copies = node.attributes.get_int("allowzero", 0) == 0
    result: Dims = []
    for axis, entry in enumerate(wanted.entries):
        if entry == 0 and zero_copies:
            result.append(dims[axis] if dims is not None and axis < len(dims) else None)
        else:
            result.append(entry)
    if -1 in result:
        others = product(entry for entry in result if entry != -1)
        rest = divide(product(dims), others) if dims is not None else None
        result = [rest if entry == -1 else entry for entry in result]
    return result


def _flatten(node: ir.Node, facts: Facts) -> Dims | None:
    dims = facts.dims_of(node.inputs[0])
    if dims is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    return [product(dims[:axis]), product(dims[axis:])]


def _squeeze(node: ir.Node, facts: Facts) -> Dims | None:
    dims, axes = facts.dims_of(node.inputs[0]), ints_of(node, "axes", 1)
    if dims is None or not axes:
        return None
    gone = {axis % len(dims) for axis in axes}
    return [dim for axis, dim in enumerate(dims) if axis not in gone]


def _unsqueeze(node: ir.Node, facts: Facts) -> Dims | None:
    dims, axes = facts.dims_of(node.inputs[0]), ints_of(node, "axes", 1)
    if dims is None or not axes:
        return None
    count = len(dims) + len(axes)
    new, rest = {axis % count for axis in axes}, iter(dims)
    return [1 if axis in new else next(rest) for axis in range(count)] if len(new) == len(axes) else None


def _expand(node: ir.Node, facts: Facts) -> Dims | None:
    dims, wanted = facts.dims_of(node.inputs[0]), facts.vector_of(node.inputs[1])
    return None if dims is None or wanted is None or wanted.scalar else _broadcast(dims, list(wanted.entries))


def _filled(node: ir.Node, facts: Facts) -> Dims | None:
    wanted = facts.vector_of(node.inputs[0])
    return None if wanted is None or wanted.scalar else list(wanted.entries)


def _matmul(node: ir.Node, facts: Facts) -> Dims | None:
    a, b = facts.dims_of(node.inputs[0]), facts.dims_of(node.inputs[1])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    return [*_broadcast(a[:-2], b[:-2]), a[-2], b[-1]]


def _gemm(node: ir.Node, facts: Facts) -> Dims | None:
    a, b = facts.dims_of(node.inputs[0]), facts.dims_of(node.inputs[1])
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return None
    return [a[node.attributes.get_int("transA", 0)], b[1 - node.attributes.get_int("transB", 0)]]


def _gather(node: ir.Node, facts: Facts) -> Dims | None:
    data, indices = facts.dims_of(node.inputs[0]), facts.dims_of(node.inputs[1])
    if data is None or indices is None or not data:
        return None
    axis = node.attributes.get_int("axis", 0) % len(data)
    return [*data[:axis], *indices, *data[axis + 1 :]]


_LIKE_FIRST = (
    "Abs", "Cast", "Ceil", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Sigmoid", "Sign", "Softmax", "Softplus", "Sqrt", "Tanh", "BatchNormalization", "InstanceNormalization",
    "CumSum", "DequantizeLinear", "QuantizeLinear", "IsNaN", "Sin", "Cos",
    "PRelu",
)  # fmt: skip
BROADCASTING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Where", "Max", "Min", "Sum", "Mean",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_LIKE_FIRST, _same),
    **dict.fromkeys(BROADCASTING, _broadcast_inputs),
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Gather": _gather,
}
