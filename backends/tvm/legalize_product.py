"""Matrix products as our schedules want them: a constant right operand packed into panels of whole columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax, te, tirx
from tvm.ir import GenericConst
from tvm.relax.transform.legalize_ops.linear_algebra import _matmul

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.product import PANEL
from lwc.backends.tvm.schedules.product_tile import tile

# Rows to choose a panel for where their number is not known when compiling.
MANY_ROWS = 64


def packed_matmul(machine: Machine) -> Callable[[relax.BlockBuilder, relax.Call], relax.Expr]:
    """relax.matmul with its constant right operand [K, N] float32 packed to [panels, K, width]."""

    def legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        left, right = call.args
        shape = left.ty.shape
        if not _packable(call) or shape is None or len(shape) < 2:
            return _matmul(bb, call)
        weight = right.value.numpy()
        rows = math.prod(int(dim) if isinstance(dim, tirx.IntImm) else MANY_ROWS for dim in list(shape)[:-1])
        width = tile(machine, max(rows, 1), weight.shape[1], max(weight.shape[0], 1)).width
        return bb.call_te(
            panel_product, left, relax.const(panels(weight, width)), columns=weight.shape[1],
            primfunc_name_hint="product",
        )  # fmt: skip

    return legalize


def panels(weight: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """[K, N] as [ceil(N / width), K, width]: each panel's columns side by side, zeros beyond the last."""
    depth, columns = weight.shape
    padded = np.zeros((depth, -(-columns // width) * width), weight.dtype)
    padded[:, :columns] = weight
    return np.ascontiguousarray(padded.reshape(depth, -1, width).transpose(1, 0, 2))


def _packable(call: relax.Call) -> bool:
    right = call.args[1]
    if not isinstance(right, GenericConst) or call.attrs.out_dtype not in (None, "", "float32"):
        return False
    return right.value.dtype == "float32" and len(right.value.shape) == 2 and min(right.value.shape) > 0


def panel_product(left: te.Tensor, packed: te.Tensor, columns: int) -> te.Tensor:
    """left [..., K], packed as `panels` gives it -> [..., columns]"""
    depth, width = list(packed.shape)[1:]
    along = te.reduce_axis((0, depth), "along")
    return te.compute(
        (*list(left.shape)[:-1], columns),
        lambda *at: te.sum(left(*at[:-1], along) * packed[at[-1] // width, along, at[-1] % width], axis=along),
        name="product",
        attrs={PANEL: int(width)},
    )
