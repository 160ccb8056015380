"""Modules that TVM's virtual machine runs, behind lwc's Session protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from lwc.backends.serving import fitting
from lwc.backends.tvm.errors import convert
from lwc.backends.tvm.program import Program
from lwc.compiler.core.backend import Array, Feeds, Port

ALIGNMENT = 64  # bytes; kernels load whole vectors from where an input begins
WORTH_A_LOOK = 1 << 16  # bytes that take longer to copy than to ask where they lie
SHARED_KINDS = "fiu"  # kinds of numbers that both sides of DLPack know


class TvmSession:
    """One executable, compiled for fixed shapes. machine: the virtual machine that runs it"""

    def __init__(
        self, executable: Any, inputs: Sequence[Port], outputs: Sequence[Port], name: str, weights: Sequence[Any] = ()
    ) -> None:
        """executable: a VMExecutable, or a library that was made of one and is loaded;  weights: as in Program"""
        self.inputs = inputs
        self.outputs = outputs
        self._name = name
        self.machine, self._main = Program(executable, tuple(weights), None).start()
        self._buffers: list[Any] = [None] * len(inputs)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Arrays that are no inputs (labels) are ignored.

        Raises BadCalibration when an input is missing or has another type or shape.
        """
        return {name: np.array(array) for name, array in self.run_shared(feeds).items()}

    def run_shared(self, feeds: Feeds) -> dict[str, Array]:
        """The same without copies of the outputs, which are not to be written into."""
        arrays = [fitting(port, feeds, self._name) for port in self.inputs]
        try:
            found = self._main(*(self._tensor(k, array) for k, array in enumerate(arrays)))
        except Exception as error:
            raise convert(error, self._name) from error
        results = [found] if len(self.outputs) == 1 and isinstance(found, tvm.runtime.Tensor) else found
        return {port.name: _array(result, port) for port, result in zip(self.outputs, results, strict=True)}

    def _tensor(self, index: int, array: Array) -> Any:
        """The array itself where it is large and lies as kernels want it, else a copy that is kept for this input."""
        if array.nbytes >= WORTH_A_LOOK and array.dtype.kind in SHARED_KINDS and _lies_well(array):
            return tvm.runtime.from_dlpack(array)
        if self._buffers[index] is None:
            buffer = tvm.runtime.empty(array.shape, str(array.dtype), tvm.cpu())
            self._buffers[index] = buffer, np.from_dlpack(buffer) if array.dtype.kind in SHARED_KINDS else None
        buffer, view = self._buffers[index]
        if view is not None:
            np.copyto(view, array)
        else:
            buffer.copyfrom(np.ascontiguousarray(array).reshape(array.shape))
        return buffer


def _lies_well(array: Array) -> bool:
    return array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable


def _array(result: Any, port: Port) -> Array:
    """A view where NumPy knows the type; shapes, which are no tensors, as integers."""
    if not isinstance(result, tvm.runtime.Tensor):
        return np.asarray(list(result), np.int64)
    return np.from_dlpack(result) if port.dtype.kind in SHARED_KINDS else np.asarray(result.numpy())
