"""Sums of channels around each one, as LRN takes them: a pointwise convolution by a band of one value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.legalize_conv import described
from lwc.backends.tvm.machine import Machine

WIDEST_BAND = 64  # whose channels are all written out


def band(channels: int, before: int, size: int, value: float) -> NDArray[np.float32]:
    """Weights [channels, channels]: output o sums `size` inputs from o - `before` on, each times `value`."""
    place = np.arange(channels)
    offset = place[None, :] - place[:, None] + before
    return np.where((offset >= 0) & (offset < size), np.float32(value), np.float32(0))


def banded_conv2d(bb: relax.BlockBuilder, call: relax.Call, machine: Machine) -> relax.Expr | None:
    """relax.nn.conv2d in NHWC of float32 by such weights; None for others."""
    conv = described(call)
    if conv is None or conv.planes or conv.groups > 1 or conv.channels != conv.out_channels:
        return None
    pointwise = conv.kernel_height == conv.kernel_width == conv.stride_y == conv.stride_x == 1
    if not pointwise or (conv.top, conv.left, conv.height, conv.width) != (0, 0, conv.out_height, conv.out_width):
        return None
    found = _band_of(call.args[1].value.numpy()[:, 0, 0, :])
    if found is None:
        return None
    before, size, value = found
    lead = math.ceil(max(before, 0) / machine.lanes) * machine.lanes
    wide = bb.emit(bb.call_te(
        _between_zeros, call.args[0], lead, max(size - 1 - before, 0), machine.lanes, primfunc_name_hint="between_zeros"
    ))  # fmt: skip
    return bb.call_te(
        _sums, wide, conv.channels, lead - before, size, value,
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="band",
    )  # fmt: skip


def _band_of(weight: NDArray[np.float32]) -> tuple[int, int, float] | None:
    """before, size and value of `band`, if that is what these weights [out, in] are."""
    outputs, inputs = np.nonzero(weight)
    if not len(outputs):
        return None
    before = int((outputs - inputs).max())
    size, value = before + int((inputs - outputs).max()) + 1, float(weight[outputs[0], inputs[0]])
    if size > WIDEST_BAND or not np.array_equal(weight, band(len(weight), before, size, value)):
        return None
    return before, size, value


def _between_zeros(data: te.Tensor, lead: int, after: int, lanes: int) -> te.Tensor:
    """data [n, h, w, c] behind `lead` zeros, whole vectors of them, and before at least `after`."""
    *outer, c = (int(size) for size in data.shape)
    whole = lead + math.ceil((c + after) / lanes) * lanes

    def element(*at: Any) -> Any:
        *rest, place = at
        # Where channels fill vectors, a vector is inside as a whole or not at all.
        before_end = place // lanes < (lead + c) // lanes if c % lanes == 0 else place < lead + c
        inside = tirx.all(place // lanes >= lead // lanes, before_end)
        return tirx.if_then_else(inside, data(*rest, place - lead), tirx.const(0, data.dtype))

    return te.compute((*outer, whole), element, name="between_zeros")


def _sums(wide: te.Tensor, channels: int, first: int, size: int, value: float) -> te.Tensor:
    """The sum of `size` neighbours, of channel 0 from place `first` on, times `value`: [n, h, w, channels]"""

    def element(*at: Any) -> Any:
        *rest, c = at
        total = wide(*rest, c + first)
        for k in range(1, size):
            total = total + wide(*rest, c + (first + k))
        return total * tirx.const(value, wide.dtype)

    return te.compute((*wide.shape[:-1], channels), element, name="band")
