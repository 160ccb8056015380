"""Functions as Relax fused them, as what tuning knows them by: candidates differ in their schedules alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import tirx
from tvm.s_tir import Schedule


@dataclass(frozen=True)
class Fused:
    """A function of fixed shapes, not scheduled, that writes its last parameter.

    digest: of its structure, whatever its names are
    """

    digest: str
    func: tirx.PrimFunc = field(compare=False, repr=False)

    @staticmethod
    def of(func: tirx.PrimFunc) -> Fused:
        """What a rule was given."""
        bare = func.without_attr("global_symbol")
        return Fused(f"{tvm_ffi.structural_hash(bare) & (1 << 64) - 1:016x}", func)

    @property
    def work(self) -> float:
        """Steps of all loops."""
        s = Schedule(self.func)
        blocks = s.get_child_blocks(s.get_sblock("root"))
        return float(sum(math.prod(int(it.dom.extent) for it in s.get(block).iter_vars) for block in blocks))

    def operands(self, random: np.random.Generator) -> tuple[list[NDArray[np.generic]], NDArray[np.generic]]:
        """Arguments, noise for floats and bytes, zeros for what may be an index; what the result is written into."""
        *inputs, result = (np.zeros(_extents(param), tvm.DataType(param.dtype)) for param in self.func.params)
        return [_noise(array, random) for array in inputs], result


def _extents(param: tirx.Buffer) -> list[int]:
    return [int(extent) for extent in param.shape]


def _noise(array: NDArray[np.generic], random: np.random.Generator) -> NDArray[np.generic]:
    if array.dtype.kind == "f":
        return random.standard_normal(array.shape).astype(array.dtype)
    if array.dtype.itemsize == 1 and array.dtype.kind in "iu":
        return random.integers(0, 128, array.shape).astype(array.dtype)
    return array
