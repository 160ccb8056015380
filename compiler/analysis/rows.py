"""A layer's first activation as rows that its weight multiplies: y = x W, one row of `in` values per position.

MatMul, LSTM, GRU, RNN   x [..., in]              rows [positions, in]; W x counts as x^T W^T
Gemm                     x [n, in], or [in, n] when transA
Conv                     x [n, c, ...]            im2col: [positions, c/groups * kernel], per group
ConvTranspose            x [n, c, ...]            [positions, c/groups], per group (each input pixel times W)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """How to turn the activation into rows; equal for layers that see the same rows of the same value.

    features: columns per group (0: known from the data only);  kernel and what follows: of a Conv, one entry per axis
    """

    kind: str
    features: int = 0
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"

    def of(self, x: Array, limit: int, rng: np.random.Generator) -> Array:
        """Rows of one activation, [n, in] or [groups, n, in], at most `limit`: others are left out at random."""
        if self.kind == "conv":
            return self._patches(x, limit, rng)
        if self.kind == "pixels":
            x = np.moveaxis(x, 1, -1)
        elif self.kind == "columns":
            x = np.swapaxes(x, -1, -2)
        rows = x.reshape(-1, x.shape[-1])
        rows = rows[_some(len(rows), limit, rng)]
        return rows if self.groups == 1 else np.moveaxis(rows.reshape(len(rows), self.groups, -1), 0, 1)

    def _patches(self, x: Array, limit: int, rng: np.random.Generator) -> Array:
        spatial = len(self.kernel)
        pads = self.pads if self.auto_pad in ("NOTSET", "VALID") else self._same_pads(x.shape[2:])
        if self.auto_pad == "VALID":
            pads = (0,) * (2 * spatial)
        x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])
        reach = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        if any(size < window for size, window in zip(x.shape[2:], reach, strict=True)):
            return np.empty((self.groups, 0, 1) if self.groups > 1 else (0, 1), x.dtype)
        axes = tuple(range(2, 2 + spatial))
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
        every = slice(None)
        steps = (slice(None, None, step) for step in (*self.strides, *self.dilations))
        windows = windows[(every, every, *steps)]
        positions = (len(x), *windows.shape[2 : 2 + spatial])
        batch, *place = np.unravel_index(_some(math.prod(positions), limit, rng), positions)
        chosen: tuple[Any, ...] = (batch, every, *place)
        picked: Array = windows[chosen]
        if self.groups == 1:
            return picked.reshape(len(batch), -1)
        return np.moveaxis(picked.reshape(len(batch), self.groups, -1), 0, 1)

    def _same_pads(self, shape: Sequence[int]) -> tuple[int, ...]:
        begin, end = [], []
        for size, k, s, d in zip(shape, self.kernel, self.strides, self.dilations, strict=True):
            total = max(0, (math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size)
            less, more = total // 2, total - total // 2
            begin.append(less if self.auto_pad == "SAME_UPPER" else more)
            end.append(more if self.auto_pad == "SAME_UPPER" else less)
        return (*begin, *end)


def rows_of(node: ir.Node) -> tuple[int, Rows] | None:
    """Which input of a layer its weight multiplies, and how; None for nodes without a constant weight matrix."""
    if node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return None
    shapes = [_constant_shape(value) for value in node.inputs]
    if node.op_type == "MatMul":
        if shapes[0] is None and shapes[1] is not None and len(shapes[1]) == 2:
            return 0, Rows("last", shapes[1][0])
        if shapes[1] is None and shapes[0] is not None and len(shapes[0]) == 2:
            return 1, Rows("columns", shapes[0][1])
    if shapes[0] is not None or shapes[1] is None:
        return None
    if node.op_type == "Gemm":
        inner = shapes[1][node.attributes.get_int("transB", 0)]
        return 0, Rows("columns" if node.attributes.get_int("transA", 0) else "last", inner)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return 0, Rows("last", shapes[1][2])
    groups = node.attributes.get_int("group", 1)
    if node.op_type == "ConvTranspose":
        return 0, Rows("pixels", shapes[1][0] // groups, groups)
    return (0, _conv_rows(node, shapes[1], groups)) if node.op_type == "Conv" else None


def _conv_rows(node: ir.Node, weight: tuple[int, ...], groups: int) -> Rows:
    kernel = weight[2:]
    ones = (1,) * len(kernel)
    return Rows(
        "conv",
        math.prod(weight[1:]),
        groups,
        kernel,
        tuple(node.attributes.get_ints("strides", ones)),
        tuple(node.attributes.get_ints("dilations", ones)),
        tuple(node.attributes.get_ints("pads", tuple(itertools.repeat(0, 2 * len(kernel))))),
        node.attributes.get_string("auto_pad", "NOTSET"),
    )


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.const_value is None:
        return None
    return tuple(int(size) for size in value.const_value.shape.numpy())


def _some(count: int, limit: int, rng: np.random.Generator) -> Array:
    """Indices of at most `limit` of `count` rows, in order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(rng.choice(count, limit, replace=False))
