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
SHARED_KINDS = "fiu"  # kinds of NumPy's own numbers that both sides of DLPack know


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
        return {name: copied(found) for name, found in self.run_shared(feeds).items()}

    def run_shared(self, feeds: Feeds) -> dict[str, Array]:
        """The same without copies of the outputs, which are not to be written into."""
        arrays = [fitting(port, feeds, self._name) for port in self.inputs]
        try:
            found = self._main(*(self._tensor(k, array) for k, array in enumerate(arrays)))
        except Exception as error:
            raise convert(error, self._name) from error
        alone = len(self.outputs) == 1 and (isinstance(found, tvm.runtime.Tensor) or _is_sequence(self.outputs[0]))
        results = [found] if alone else found
        return {port.name: _array(result, port) for port, result in zip(self.outputs, results, strict=True)}

    def _tensor(self, index: int, array: Array) -> Any:
        """The array itself where it is large and lies as kernels want it, else a copy that is kept for this input."""
        if array.nbytes >= WORTH_A_LOOK and _is_shared(array.dtype) and _lies_well(array):
            return tvm.runtime.from_dlpack(array)
        if self._buffers[index] is None:
            buffer = tvm.runtime.empty(array.shape, str(array.dtype), tvm.cpu())
            self._buffers[index] = buffer, np.from_dlpack(buffer) if _is_shared(array.dtype) else None
        buffer, view = self._buffers[index]
        if view is not None:
            np.copyto(view, array)
        else:
            buffer.copyfrom(np.ascontiguousarray(array).reshape(array.shape))
        return buffer


def _lies_well(array: Array) -> bool:
    return array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable


def copied(value: Any) -> Any:
    """An array, or a list of them, of memory of its own."""
    return [copied(item) for item in value] if isinstance(value, list) else np.array(value)


def _array(result: Any, port: Port) -> Any:
    """A view where NumPy knows the type, a list of them for a sequence; shapes, which are no tensors, as integers."""
    if _is_sequence(port):
        return [_viewed(item, np.dtype(str(item.dtype))) for item in result]
    return _viewed(result, port.dtype) if isinstance(result, tvm.runtime.Tensor) else np.asarray(list(result), np.int64)


def _viewed(tensor: Any, dtype: np.dtype[Any]) -> Array:
    return np.from_dlpack(tensor) if _is_shared(dtype) else np.asarray(tensor.numpy())


def _is_sequence(port: Port) -> bool:
    """TVM knows no strings, which are the other objects."""
    return port.dtype == np.object_


def _is_shared(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in SHARED_KINDS and dtype.isbuiltin == 1
