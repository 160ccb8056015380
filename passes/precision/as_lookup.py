"""A Gather from a table of codes: rows are gathered first and multiplied out after, so that the table stays small.

    Gather(table, ids) = Gather(scales, ids) * (Gather(codes, ids) - Gather(zeros, ids))

4-bit codes lie two to a byte, code j of a group of g in the low half and code j + g/2 in the high half of byte j,
so that Concat(BitwiseAnd(bytes, 15), BitShift(bytes, 4)) restores their order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.passes.edit import Array, rank, replace_node
from lwc.passes.precision.integer_weights import FLOAT, Emitter, IntegerWeight


def write_lookup(emitter: Emitter, node: ir.Node, weight: IntegerWeight) -> None:
    """Put the lookup in the place of a Gather along axis 0 of a table; the rank of its indices is known."""
    _Lookup(emitter, node, weight).write()


class _Lookup:
    """The nodes of one lookup, in order."""

    def __init__(self, emitter: Emitter, node: ir.Node, weight: IntegerWeight) -> None:
        self.emitter = emitter
        self.node = node
        self.weight = weight
        self.nodes: list[ir.Node] = []

    def write(self) -> None:
        stored, name = self.weight.stored, self.weight.name
        centered = self._centered()
        scales = self._gathered(f"{name}.q_scale", self._per_entry(self.weight.scales()), ir.DataType.FLOAT16)
        result = self._add("Mul", [centered, self._cast(scales)], "scaled")
        if stored.groups > 1 or len(self.weight.shape) > 2:
            depth = rank(self.node.inputs[1]) or 0
            shape = [0] * depth + list(self.weight.shape[1:])  # 0: the size that the axis has
            result = self._add("Reshape", [result, self.emitter.sizes(shape)], "rows")
        last = result.producer()
        graph = self.node.graph
        assert last is not None
        assert graph is not None
        graph.insert_before(self.node, self.nodes[:-1])
        for part in self.nodes[:-1]:
            part.metadata_props[SITE_KEY] = self.node.name or ""
        last.name = self.node.name
        replace_node(self.node, last)

    def _centered(self) -> ir.Value:
        """Codes less zero points, in float32."""
        weight, stored = self.weight, self.weight.stored
        if stored.bits == 8:
            dtype = ir.DataType.from_numpy(weight.codes.dtype)
            codes = self._gathered(f"{weight.name}.q", self._per_entry(weight.codes), dtype)
        else:
            codes = self._unpacked()
        result = self._cast(codes)
        if stored.bits == 4 and stored.symmetric:
            return self._add("Sub", [result, self._constant("middle", np.float32(weight.middle))], "centered")
        if not stored.symmetric:
            zeros = self._gathered(f"{weight.name}.q_zero", self._per_entry(weight.zeros()), ir.DataType.UINT8)
            return self._add("Sub", [result, self._cast(zeros)], "centered")
        return result

    def _unpacked(self) -> ir.Value:
        codes = self._per_entry(self.weight.from_zero())
        half = codes.shape[-1] // 2
        packed = codes[..., :half] | (codes[..., half:] << 4)
        both = self._gathered(f"{self.weight.name}.q", packed, ir.DataType.UINT8)
        fifteen, four = self._constant("low_bits", np.uint8(15)), self._constant("half", np.uint8(4))
        low = self._add("BitwiseAnd", [both, fifteen], "low", ir.DataType.UINT8)
        high = self._add("BitShift", [both, four], "high", ir.DataType.UINT8, {"direction": "RIGHT"})
        return self._add("Concat", [low, high], "codes", ir.DataType.UINT8, {"axis": -1})

    def _per_entry(self, matrix: Array) -> Array:
        """[entries, n] as [entries, groups, n / groups] when there is more than one group."""
        groups = self.weight.stored.groups
        return matrix.reshape(len(matrix), groups, -1) if groups > 1 else matrix

    def _gathered(self, name: str, table: Array, dtype: ir.DataType) -> ir.Value:
        kept = self.emitter.once(name, self.weight, lambda: self.emitter.constant(name, table))
        return self._add("Gather", [kept, self.node.inputs[1]], "gathered", dtype)

    def _cast(self, value: ir.Value) -> ir.Value:
        return self._add("Cast", [value], "float", attributes={"to": FLOAT})

    def _constant(self, name: str, array: Array | np.generic) -> ir.Value:
        return self.emitter.constant(f"{self.node.name}.{name}", np.asarray(array))

    def _add(
        self,
        op: str,
        inputs: list[ir.Value | None] | list[ir.Value],
        suffix: str,
        dtype: ir.DataType = FLOAT,
        attributes: dict[str, object] | None = None,
    ) -> ir.Value:
        node = self.emitter.node(op, inputs, f"{self.node.name}.{suffix}", dtype, attributes=attributes)
        self.nodes.append(node)
        return node.outputs[0]
