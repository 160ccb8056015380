"""Constants of integer units: weights per channel, biases as int32 of the product's scale.

y = s_x s_w (sum (q_x - z_x) q_w + q_b)        q_b = rint(b / (s_x s_w))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.units import Unit, array_of
from lwc.passes.precision.integers import Writer, up_to_power_of_two
from lwc.passes.solvers.compensation import bias_correction
from lwc.passes.solvers.rounding import ScaleMethod, quantize_per_channel

_LARGEST_BIAS = float(1 << 30)  # half of int32's reach: the other half is for the sum
_BIAS_OF_ZEROS = float(1 << 26)  # a channel whose weights are all zero takes the scale that suits its bias


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """codes, scale, zero: initializers;  axis: None for one scale;  steps: the numbers in `scale`"""

    codes: ir.Value
    scale: ir.Value
    zero: ir.Value
    axis: int | None
    steps: NDArray[np.float32]


class Weights:
    """Quantizes the weights of one model, each once however many units share it."""

    def __init__(self, writer: Writer, reduce_range: bool, power_of_two: bool = False) -> None:
        self._writer = writer
        self._reduce_range = reduce_range
        self._power_of_two = power_of_two
        self._known: dict[tuple[ir.Value, int | None, float, str, bool], QuantizedWeight] = {}

    def weight(self, unit: Unit, method: str, *, transposed: bool = False) -> QuantizedWeight:
        """The unit's weight in int8. transposed: stored the other way round."""
        value = _weight_value(unit)
        key = (value, unit.axis, unit.factors[0], method, transposed)
        if key not in self._known:
            array, axis = _weight_array(unit), unit.axis
            if transposed:
                array, axis = np.ascontiguousarray(array.T), 1 - (axis or 0)
            how: ScaleMethod = "mse" if method == "mse" else "minmax"
            codes, steps, _ = quantize_per_channel(array, axis, reduce_range=self._reduce_range, scale_method=how)
            if self._power_of_two:
                steps = up_to_power_of_two(steps)
                codes = _codes(array, steps, axis)
            self._known[key] = self._write(value.name or "weight", codes, steps, axis)
        return self._known[key]

    def weight_and_bias(
        self, unit: Unit, method: str, step: float, mean: NDArray[np.float64] | None = None
    ) -> tuple[QuantizedWeight, tuple[ir.Value, ir.Value, ir.Value] | None]:
        """The weight, and int32 codes, scales and zero points of the bias (None without one).

        step: of the activation. Where a channel's bias does not fit int32, the channel's weight takes a larger scale.
        mean: of the activation per channel [in], for which the bias makes up; None: it does not
        """
        weight = self.weight(unit, method)
        if unit.bias is None:
            return weight, None
        bias = _bias_array(unit, len(np.atleast_1d(weight.steps)))
        steps = self._steps_for(unit, weight, np.abs(bias) / step)
        if not np.array_equal(steps, weight.steps):
            codes = _codes(_weight_array(unit), steps, weight.axis)
            weight = self._write(_weight_value(unit).name or "weight", codes, steps, weight.axis)
        if mean is not None:
            bias = bias + _lost_mean(_weight_array(unit), weight, mean)
        return weight, self._write_bias(unit, bias, np.float32(step) * np.broadcast_to(steps, bias.shape))

    def _steps_for(self, unit: Unit, weight: QuantizedWeight, bias: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scales of the weight with which a bias, given in steps of the activation, has its codes."""
        reach = _reach(_weight_array(unit), weight.axis)
        peak = bias.max(initial=0.0) if weight.axis is None else bias
        steps = np.where((reach == 0) & (peak > 0), peak / _BIAS_OF_ZEROS, weight.steps)
        steps = np.maximum(steps, peak / _LARGEST_BIAS).astype(np.float32)
        return up_to_power_of_two(steps) if self._power_of_two else steps

    def _write(self, name: str, codes: NDArray[Any], steps: NDArray[np.float32], axis: int | None) -> QuantizedWeight:
        constant = self._writer.constant
        return QuantizedWeight(
            constant(f"{name}.q", codes),
            constant(f"{name}.q_scale", steps),
            constant(f"{name}.q_zero_point", np.zeros(steps.shape, np.int8)),
            axis,
            steps,
        )

    def _write_bias(
        self, unit: Unit, bias: NDArray[np.float64], scale: NDArray[np.float32]
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        assert unit.bias is not None
        name, constant = unit.bias.name, self._writer.constant
        codes = np.rint(bias / scale.astype(np.float64)).astype(np.int32)
        zeros = np.zeros(codes.shape, np.int32)
        return constant(f"{name}.q", codes), constant(f"{name}.q_scale", scale), constant(f"{name}.q_zero_point", zeros)


def _weight_value(unit: Unit) -> ir.Value:
    assert unit.weight is not None
    value = unit.node.inputs[unit.weight]
    assert value is not None
    return value


def _weight_array(unit: Unit) -> NDArray[np.float32]:
    array = array_of(_weight_value(unit)).astype(np.float32)
    return array if unit.factors[0] == 1.0 else array * np.float32(unit.factors[0])


def _bias_array(unit: Unit, channels: int) -> NDArray[np.float64]:
    assert unit.bias is not None
    bias = array_of(unit.bias).astype(np.float64).reshape(-1) * unit.factors[1]
    return np.broadcast_to(bias, (channels,)) if bias.size == 1 else bias


def _lost_mean(array: NDArray[np.float32], weight: QuantizedWeight, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(W - W') E[x] [out]: all positions of a kernel see the channel's mean, a convolution's padding is neglected."""
    axis = weight.axis or 0
    stored = array_of(weight.codes) * _along(weight.steps, weight.axis, array.ndim)
    exact, rounded = (np.moveaxis(part, axis, 0).astype(np.float64) for part in (array, stored))
    outputs, inputs = exact.shape[:2]
    means = np.repeat(mean.reshape(-1, inputs), outputs * inputs // mean.size, axis=0)
    before, after = (part.reshape(outputs, inputs, -1).sum(axis=2) for part in (exact, rounded))
    return bias_correction(before, after, means)


def _reach(array: NDArray[Any], axis: int | None) -> NDArray[Any]:
    other = tuple(k for k in range(array.ndim) if k != axis)
    return np.asarray(np.abs(array).max(axis=other, initial=0.0))


def _codes(array: NDArray[Any], steps: NDArray[np.float32], axis: int | None) -> NDArray[np.int8]:
    return np.clip(np.rint(array / _along(steps, axis, array.ndim)), -127, 127).astype(np.int8)


def _along(steps: NDArray[np.float32], axis: int | None, rank: int) -> NDArray[np.float32]:
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1
    return steps.reshape(shape)
