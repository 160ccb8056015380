"""Integer weights as constants and nodes of a graph: packed codes, scales in half precision, zero points.

    w = scale * (code - zero)

What depends on constants alone stands at the graph's start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import Names, add_initializer
from lwc.passes.precision.solved import Bytes, SmallCodes, evened, paired
from lwc.passes.precision.weight_forms import Stored
from lwc.passes.solvers.grid import Grid

FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A solved matrix and how it is stored. name, shape: of the constant."""

    stored: Stored
    name: str
    shape: tuple[int, ...]
    codes: SmallCodes
    grid: Grid

    @property
    def middle(self) -> int:
        """What symmetric codes are shifted by to start at 0."""
        return 1 << (self.stored.bits - 1) if self.stored.symmetric else 0

    def from_zero(self) -> Bytes:
        """Codes [out, in] that start at 0."""
        return (self.codes.astype(np.int16) + self.middle).astype(np.uint8)

    def zeros_from_zero(self) -> Bytes:
        """Their zero points [out, groups]."""
        return (self.grid.zero + self.middle).astype(np.uint8)

    def zeros(self) -> SmallCodes:
        """Zero points of the codes as they are [out, groups]."""
        return self.grid.zero.astype(self.codes.dtype)

    def scales(self) -> NDArray[np.float16]:
        """[out, groups]."""
        return self.grid.scale.astype(np.float16)


class Emitter:
    """Adds constants and nodes to one graph."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self._names = Names(model)
        self._prelude: list[ir.Node] = []
        self._sizes: dict[tuple[int, ...], ir.Value] = {}
        self._shared: dict[tuple[str, int, Stored], tuple[Grid, ir.Value]] = {}

    def once(self, part: str, weight: IntegerWeight, make: Callable[[], ir.Value]) -> ir.Value:
        """What `make` gives for a part of the weight, made once for all who read it stored alike."""
        key = (part, id(weight.grid), weight.stored)
        if key not in self._shared:
            self._shared[key] = (weight.grid, make())  # which keeps the grid, so that its id stays its own
        return self._shared[key][1]

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A new initializer whose name derives from `name`."""
        return add_initializer(self.graph, self._names.claim(name), np.ascontiguousarray(array))

    def integers(self, name: str, array: SmallCodes, bits: int) -> ir.Value:
        """Codes or zero points, int8 or uint8, in the ONNX type of this width."""
        if bits == 8:
            return self.constant(name, array)
        dtype = ir.DataType.INT4 if array.dtype == np.int8 else ir.DataType.UINT4
        claimed = self._names.claim(name)
        packed = paired(evened(array) & np.uint8(0xF))
        return add_initializer(self.graph, claimed, ir.PackedTensor(packed, dtype, shape=array.shape, name=claimed))

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        dtype: ir.DataType = FLOAT,
        shape: Sequence[int] | None = None,
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
    ) -> ir.Node:
        """A node that is in no graph yet."""
        node = ir.node(op, inputs, dict(attributes or {}), domain=domain)
        node.name = node.outputs[0].name = self._names.claim(name)
        node.outputs[0].type = ir.TensorType(dtype)
        node.outputs[0].shape = None if shape is None else ir.Shape(shape)
        return node

    def computed(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        name: str,
        shape: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Value:
        """A float value of this shape that depends on constants alone, in a node without a name.

        No runtime executes it: short names keep the files of small models small.
        """
        node = self.node(op, inputs, name, shape=shape, attributes=attributes)
        node.name = None
        self._prelude.append(node)
        return node.outputs[0]

    def as_float(self, value: ir.Value) -> ir.Value:
        """A constant cast to float32."""
        return self.computed("Cast", [value], "cast", shape_of(value), {"to": FLOAT})

    def reshaped(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A value that depends on constants alone in another shape."""
        return self.computed("Reshape", [value, self.sizes(shape)], "reshape", shape)

    def sizes(self, numbers: Sequence[int]) -> ir.Value:
        """A constant vector of integers, once for all who need it."""
        key = tuple(numbers)
        if key not in self._sizes:
            self._sizes[key] = self.constant("sizes", np.array(key, np.int64))
        return self._sizes[key]

    def finish(self) -> None:
        """Put what depends on constants alone at the graph's start."""
        if self._prelude:
            self.graph.insert_before(self.graph[0], self._prelude)


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape of a constant."""
    assert value.shape is not None
    return tuple(int(size) for size in value.shape.numpy())
