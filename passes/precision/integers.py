"""Scales, zero points, and the QuantizeLinear and DequantizeLinear nodes that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.plan import Range
from lwc.passes.edit import Names, add_initializer
from lwc.passes.solvers.rounding import affine_parameters


@dataclass(frozen=True)
class Scale:
    """x = (q - zero) * step, per tensor. Equal scales compare equal."""

    step: float
    zero: int
    dtype: np.dtype[Any]

    @staticmethod
    def of(range_: Range, symmetric: bool, one_sided: bool, power_of_two: bool = False, bits: int = 8) -> Scale:
        """Unsigned integers over the range; for targets with symmetric activations signed with zero point 0.

        one_sided: the ends of the range stand for a swallowed activation, so they must be the ends of the codes
        power_of_two: the step is rounded up to one; of the ends only zero is an end of the codes then
        """
        dtype = np.dtype(f"int{bits}" if symmetric else f"uint{bits}")
        centered = symmetric and not one_sided
        step, zero = affine_parameters(range_, dtype, centered)
        if power_of_two:
            step = np.float32(up_to_power_of_two(step))
            if not centered:
                first = np.iinfo(dtype).min
                return Scale(float(step), first + round(-min(range_.low, 0.0) / float(step)), dtype)
        return Scale(float(step), int(zero), dtype)

    def codes(self, values: Any) -> Any:
        """Codes of constant numbers."""
        limits = np.iinfo(self.dtype)
        codes = np.rint(np.asarray(values, np.float64) / self.step) + self.zero
        return np.clip(codes, limits.min, limits.max).astype(self.dtype)


def up_to_power_of_two(steps: Any) -> Any:
    """For each positive number the least power of two that is not below it."""
    mantissa, exponent = np.frexp(np.asarray(steps, np.float64))
    return np.ldexp(1.0, exponent - (mantissa == 0.5)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Codes:
    """An integer value of the graph and what it stands for."""

    value: ir.Value
    scale: Scale


class Writer:
    """Makes initializers and Q/DQ nodes of one graph; equal scales share their initializers."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.names = Names(model)
        self._scales: dict[Scale, tuple[ir.Value, ir.Value]] = {}

    def constant(self, name: str, array: Any) -> ir.Value:
        """A new initializer whose name derives from `name`."""
        return add_initializer(self.graph, self.names.claim(name), np.asarray(array))

    def node(
        self,
        op: str,
        inputs: list[ir.Value | None],
        like: ir.Value,
        suffix: str,
        attributes: dict[str, Any] | None = None,
    ) -> ir.Node:
        """A node outside the graph whose output has the shape of `like` and a name made of its name and `suffix`."""
        node = ir.node(op, inputs, attributes)
        name = self.names.claim(f"{like.name}{suffix}")
        node.name, node.outputs[0].name = name, name
        node.outputs[0].shape = like.shape
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return node

    def quantize(self, value: ir.Value, scale: Scale, like: ir.Value) -> ir.Node:
        node = self.node("QuantizeLinear", [value, *self._parameters(scale, like)], like, ".quantize")
        node.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(scale.dtype))
        return node

    def dequantize(self, codes: Codes, like: ir.Value) -> ir.Node:
        return self.node("DequantizeLinear", [codes.value, *self._parameters(codes.scale, like)], like, ".dequantize")

    def zero_point(self, scale: Scale, like: ir.Value) -> ir.Value:
        """The code of zero as a value."""
        return self._parameters(scale, like)[1]

    def _parameters(self, scale: Scale, like: ir.Value) -> tuple[ir.Value, ir.Value]:
        if scale not in self._scales:
            step = self.constant(f"{like.name}.scale", np.float32(scale.step))
            zero = self.constant(f"{like.name}.zero_point", np.array(scale.zero, scale.dtype))
            self._scales[scale] = (step, zero)
        return self._scales[scale]
