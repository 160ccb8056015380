"""3x3 convolutions of stride 1 by Winograd's minimal filtering: whether, and if so how, chosen for each layer.

The choice is one among a kernel's candidates, as its tiles are: F(2x2), F(4x4) and the direct convolution compete by
estimate, by measurement when tuned. What rounding costs depends on the weights, so each layer is tried with its own:
a size whose float32 results differ from exact ones by more than the tests of all kernels allow is no candidate there.
The proof at the end of a compile judges the model as a whole, as it does any plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from lwc.backends.tvm.fusion import OUT_ELEMENTWISE_FUSABLE
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules import conv_plan, winograd_plan
from lwc.backends.tvm.schedules import winograd as schedule
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.backends.tvm.schedules.winograd_filter import POINTS, TAPS, Filter, Matrix, minimal
from lwc.backends.tvm.schedules.winograd_plan import Winograd

LARGEST_ERROR = 2e-5  # of the largest output of the same data
TRIED_TILES, TRIED_CHANNELS = 16, 64

Array = NDArray[Any]


def choice(conv: Conv, weight: Array, machine: Machine) -> Tile | Winograd:
    """What was measured fastest, or takes the least time by estimate. weight [o, 3, 3, c]"""
    found: list[Tile | Winograd] = list(conv_plan.candidates(conv, machine))
    if winograd_plan.fits(conv, machine):
        exact = {size for size in POINTS if error(weight, size) <= LARGEST_ERROR}
        found += [each for each in winograd_plan.candidates(conv, machine) if each.size in exact]
    return machine.tuned.best(conv, found, lambda each: winograd_plan.cycles(conv, each, machine))


def error(weight: Array, size: int) -> float:
    """Largest difference of F(size x size) in float32 from exact results, over the largest of these in its channel.

    On noise without negative values, as activations mostly are, for channels from the least to the largest weights;
    infinite where results are no numbers. weight [o, 3, 3, c]
    """
    filter_, side = minimal(size), size + TAPS - 1
    data = np.random.default_rng(0).standard_normal((TRIED_TILES, side, side, weight.shape[3]), np.float32)
    data = np.maximum(data, 0)
    order = np.argsort(np.abs(weight).max((1, 2, 3)))
    some = weight[order[np.unique(np.linspace(0, len(order) - 1, TRIED_CHANNELS).astype(int))]]
    to, back = ((first @ second).astype(np.float32) for first, second in (filter_.data, filter_.out))
    windows = np.lib.stride_tricks.sliding_window_view(data.astype(np.float64), (TAPS, TAPS), (1, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        moved = _transformed(some, filter_).astype(np.float32)
        there = np.einsum("ai,bj,tijc->abtc", to, to, data, optimize=True)
        got = np.einsum("xa,yb,abto->xyto", back, back, there @ moved, optimize=True)
        want = np.einsum("txycij,oijc->xyto", windows, some.astype(np.float64), optimize=True)
        off, largest = (np.abs(each).max((0, 1, 2)) for each in (got - want, want))
        found = off[largest != 0] / largest[largest != 0]
    return float(np.nan_to_num(found, nan=np.inf).max(initial=0.0))


def filtered(bb: relax.BlockBuilder, data: relax.Expr, weight: Array, conv: Conv, chosen: Winograd) -> relax.Expr:
    """The convolution in Winograd's way. weight [o, 3, 3, c]"""
    return bb.call_te(
        lambda data, weight: winograd(data, weight, conv, chosen), data, relax.const(pack(weight, chosen)),
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}, primfunc_name_hint="conv2d",
    )  # fmt: skip


def pack(weight: Array, chosen: Winograd) -> Array:
    """weight [o, 3, 3, c] -> G g G^T as [panels, points, c, channels of a panel]; the last panel ends with the last
    channel, and may overlap the one before.
    """
    moved = _transformed(weight, minimal(chosen.size)).astype(np.float32)
    width, outputs = chosen.channels, len(weight)
    starts = [min(k, outputs - width) for k in range(0, outputs, width)]
    panels = [moved[..., start : start + width] for start in starts]
    return np.stack(panels).reshape(len(panels), chosen.points, -1, width)


def _transformed(weight: Array, filter_: Filter) -> Matrix:
    """[o, 3, 3, c] -> [side, side, c, o]"""
    to = filter_.weight
    moved: Matrix = np.einsum("ai,bj,oijc->abco", to, to, weight.astype(np.float64), optimize=True)
    return moved


def winograd(data: te.Tensor, weight: te.Tensor, conv: Conv, chosen: Winograd) -> te.Tensor:
    """data [n, h, w, c], weight as `pack` gives it -> [n, oh, ow, o]; the definition, that schedules.winograd knows."""
    size, side = chosen.size, chosen.side
    to, back = (first @ second for first, second in (minimal(size).data, minimal(size).out))
    a, b, i, j = (te.reduce_axis((0, side)) for _ in range(4))
    c = te.reduce_axis((0, conv.channels))

    def element(n: Any, y: Any, x: Any, o: Any) -> Any:
        row, column = y // size * size + i - conv.top, x // size * size + j - conv.left
        inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
        value = tirx.if_then_else(inside, data[n, row, column, c], 0.0)
        panel = o // chosen.channels
        within = o - tirx.min(panel * chosen.channels, conv.out_channels - chosen.channels)
        product = value * weight[panel, a * side + b, c, within]
        forth = _entry(to, a, i) * _entry(to, b, j)
        return te.sum(product * forth * _entry(back, y % size, a) * _entry(back, x % size, b), axis=[a, b, i, j, c])

    shape = (conv.batch, conv.out_height, conv.out_width, conv.out_channels)
    numbers = [chosen.size, chosen.rows, chosen.vectors, chosen.lanes, chosen.block]
    return te.compute(shape, element, name="winograd", attrs={schedule.ANNOTATION: [*conv.numbers(), *numbers]})


def _entry(matrix: Matrix, row: Any, column: Any) -> Any:
    """An element of a constant matrix at variable places."""
    value = tirx.const(0.0, "float32")
    for (i, j), number in np.ndenumerate(matrix):
        if number:
            here = tirx.all(row == i, column == j)
            value = tirx.Select(here, tirx.const(float(number), "float32"), value)
    return value
