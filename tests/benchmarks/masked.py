"""What a pruned model must compute, made from the original by masks alone.

Nothing is removed: wherever channels are summed over (Conv, MatMul, reductions, normalizations, recurrences), those
that left are taken out of the sum, and means divide by what is left. Elsewhere they may hold anything. So the
original's own operators decide which channel meets which, and a wrong slice anywhere in the pruned model shows in the
outputs: of groups whose removal equals zeroing, and of those of which it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Masks = Mapping[tuple[str, int], Mask]  # (value, axis) -> which positions stay

# Operators that sum over an axis of these inputs; what left must be zero there.
SUMS: dict[str, tuple[int, ...]] = {
    "Conv": (0,),
    "ConvTranspose": (0,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Einsum": (0, 1),
    "LSTM": (0, 1, 2, 5, 6),
    "GRU": (0, 1, 2, 5),
    "RNN": (0, 1, 2, 5),
    "ReduceSum": (0,),
    "ReduceSumSquare": (0,),
    "ReduceL1": (0,),
    "ReduceL2": (0,),
    "LpNormalization": (0,),
}
# Reductions that are no sums: what takes the place of a channel that left.
NEUTRAL = {"ReduceMax": -3e38, "ReduceMin": 3e38, "ReduceProd": 1.0, "ReduceLogSumExp": -3e38, "Softmax": -3e38}
NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"})


def masked(model: ir.Model, masks: Masks) -> ir.Model:
    """A copy of the model in which the channels that `masks` remove are in no sum.

    Raises NotImplementedError for a normalization that has masks on an axis it does not normalize in a known way.
    """
    copy = model.clone()
    by_value: dict[str, dict[int, Mask]] = {}
    for (name, axis), mask in masks.items():
        if not mask.all():
            by_value.setdefault(name, {})[axis] = mask
    for node in list(copy.graph):
        _Rewriter(copy.graph, node, by_value).rewrite()
    return copy


class _Rewriter:
    """Puts nodes before and in place of one node."""

    def __init__(self, graph: ir.Graph, node: ir.Node, masks: Mapping[str, Mapping[int, Mask]]) -> None:
        self.graph, self.node, self.masks, self.count = graph, node, masks, 0

    def rewrite(self) -> None:
        op = self.node.op_type
        if op in SUMS:
            for index in SUMS[op]:
                self.fill(index, 0.0)
        elif op in NEUTRAL:
            self.fill(0, NEUTRAL[op])
        elif op == "ReduceMean":
            self.mean()
        elif op in NORMALIZATIONS and self.together(self.node.inputs[0]) is not None:
            self.normalization()

    def together(self, value: ir.Value | None) -> Mask | None:
        """Where nothing left, of a shape that broadcasts to the value's; None when all stays."""
        found = self.masks.get(value.name or "", {}) if value is not None else {}
        if not found or value is None or value.shape is None:
            return None
        whole = np.ones((1,) * len(value.shape), bool)
        for axis, mask in found.items():
            whole = whole & mask.reshape([-1 if k == axis else 1 for k in range(len(value.shape))])
        return whole

    def fill(self, index: int, filling: float) -> None:
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        mask = self.together(value)
        if mask is not None and value is not None and value.dtype is not None:
            other = self.constant(np.asarray(filling, value.dtype.numpy()))
            kept = self.add("Where", self.constant(mask), value, other)
            self.node.replace_input_with(index, kept)

    def mean(self) -> None:
        """mean(x) of n becomes mean(x masked) * n / kept."""
        value, result = self.node.inputs[0], self.node.outputs[0]
        if self.together(value) is None or value is None or value.shape is None or value.dtype is None:
            return
        found = self.masks[value.name or ""]
        axes = [axis % len(value.shape) for axis in self._axes(len(value.shape))]
        factor = math.prod(found[axis].size / found[axis].sum() for axis in axes if axis in found)
        self.fill(0, 0.0)
        readers = list(result.uses())
        scaled = self.add("Mul", result, self.constant(np.asarray(factor, value.dtype.numpy())), after=True)
        self.stand_in(result, scaled, readers)

    def _axes(self, rank: int) -> list[int]:
        if len(self.node.inputs) > 1 and self.node.inputs[1] is not None:
            const = self.node.inputs[1].const_value
            assert const is not None, f"{self.node.name}: axes are computed"
            return [int(axis) for axis in const.numpy().ravel()]
        return list(self.node.attributes.get_ints("axes", list(range(rank))))

    def normalization(self) -> None:
        """(x - mean) / sqrt(variance + epsilon) * scale + bias, means over what stays."""
        node, op = self.node, self.node.op_type
        x, whole = node.inputs[0], self.together(node.inputs[0])
        if x is None or x.shape is None or x.dtype is None or whole is None:
            return
        assert not any(output.uses() for output in node.outputs[1:]), f"{node.name}: its mean is read"
        shape = [dim if isinstance(dim, int) else 0 for dim in x.shape]  # 0: Reshape takes what is there
        kind = x.dtype.numpy()
        blocks, axes = self._blocks(shape, whole)
        if blocks != shape:
            x = self.add("Reshape", x, self.constant(np.asarray(blocks)))
            whole = np.broadcast_to(whole, (1, *shape[1:2], *[1] * (len(shape) - 2)))
            whole = whole.reshape(1, *blocks[1:3], *[1] * (len(shape) - 2))
        everywhere = math.prod(blocks[axis] for axis in axes if whole.shape[axis] == 1)
        assert everywhere, f"{node.name}: how much it normalizes is not known"
        count = (everywhere * whole.sum(axis=tuple(axes), keepdims=True)).astype(kind)
        keep, zero, over, divisor = map(self.constant, (whole, np.zeros((), kind), np.asarray(axes), count))
        if op != "RMSNormalization":
            total = self.add("ReduceSum", self.add("Where", keep, x, zero), over)
            x = self.add("Sub", x, self.add("Div", total, divisor))
        squares = self.add("ReduceSum", self.add("Where", keep, self.add("Mul", x, x), zero), over)
        epsilon = self.constant(np.asarray(node.attributes.get_float("epsilon", 1e-5), kind))
        made = self.add("Div", x, self.add("Sqrt", self.add("Add", self.add("Div", squares, divisor), epsilon)))
        made = made if blocks == shape else self.add("Reshape", made, self.constant(np.asarray(shape)))
        for name, part in zip(("Mul", "Add"), node.inputs[1:], strict=False):
            if part is not None and op not in ("LayerNormalization", "RMSNormalization"):
                part = self.add("Reshape", part, self.constant(np.asarray([-1] + [1] * (len(shape) - 2))))
            made = made if part is None else self.add(name, made, part)
        self.stand_in(node.outputs[0], made, list(node.outputs[0].uses()))

    def _blocks(self, shape: list[int], whole: Mask) -> tuple[list[int], list[int]]:
        """The shape in which a normalization is over whole axes, and those axes."""
        rank = len(shape)
        if self.node.op_type == "InstanceNormalization":
            return shape, list(range(2, rank))
        if self.node.op_type != "GroupNormalization":
            return shape, list(range(self.node.attributes.get_int("axis", -1) % rank, rank))
        if whole.size != whole.shape[1]:
            raise NotImplementedError(f"'{self.node.name}': masks on axes other than the channels'")
        groups = self.node.attributes.get_int("num_groups", 1)
        return [shape[0], groups, shape[1] // groups, *shape[2:]], list(range(2, rank + 1))

    def stand_in(self, old: ir.Value, new: ir.Value, readers: list[ir.Usage]) -> None:
        """Let these readers, and the graph's outputs, take the new value under the old one's name."""
        for use in readers:
            use.node.replace_input_with(use.idx, new)
        new.shape, new.type = old.shape, old.type
        name, old.name = old.name, f"{old.name}.unmasked"
        new.name = name
        for k, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[k] = new

    def constant(self, array: NDArray[Any]) -> ir.Value:
        self.count += 1
        value = ir.Value(name=f"{self.node.name}.mask{self.count}", const_value=ir.tensor(array))
        value.type, value.shape = ir.TensorType(ir.tensor(array).dtype), ir.Shape(array.shape)
        self.graph.register_initializer(value)
        return value

    def add(self, op: str, *inputs: ir.Value, after: bool = False) -> ir.Value:
        self.count += 1
        made = ir.node(op, list(inputs), name=f"{self.node.name}.{op}{self.count}")
        made.outputs[0].name = f"{made.name}.out"
        (self.graph.insert_after if after else self.graph.insert_before)(self.node, made)
        return made.outputs[0]
