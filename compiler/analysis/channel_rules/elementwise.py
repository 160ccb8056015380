"""Operators that compute each value from those at its place in the inputs, which broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import Axes, Axis, Walk, present

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Cos", "Cosh",
    "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log",
    "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
NARY = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Clip", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum",
    "Where", "Xor",
)  # fmt: skip


def broadcast(walk: Walk, node: ir.Node, inputs: Sequence[Axes]) -> Axes:
    """The axes that these have together, aligned at the last."""
    rank = max(map(len, inputs))
    padded = [(*(None,) * (rank - len(axes)), *axes) for axes in inputs]
    return tuple(_one(walk, node, column) for column in zip(*padded, strict=True))


def _one(walk: Walk, node: ir.Node, column: Sequence[Axis]) -> Axis:
    found = [axis for axis in column if axis is not None]
    found.sort(key=walk.known, reverse=True)
    for axis in found[1:]:
        walk.unify(node, found[0], axis)
    return found[0] if found else None


def elementwise(node: ir.Node, walk: Walk) -> None:
    """All inputs broadcast to the output."""
    walk.give(node, broadcast(walk, node, [walk.axes(node, index) for index in present(node)]))


def of_first(node: ir.Node, walk: Walk) -> None:
    """Every output has the shape of the first input; the other inputs are numbers."""
    for output in range(len(node.outputs)):
        walk.give(node, walk.axes(node, 0), output)
