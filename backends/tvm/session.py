"""Modules that TVM's virtual machine runs, behind lwc's Session protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lwc.backends.serving import fitting
from lwc.compiler.core.backend import Array, Feeds, Port


class TvmSession:
    """One executable with buffers for its inputs, which lie aligned as its kernels want them."""

    def __init__(self, executable: Any, inputs: Sequence[Port], outputs: Sequence[Port], name: str) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._name = name
        self._machine = relax.VirtualMachine(executable, tvm.cpu())
        self._main = self._machine["main"]
        self._buffers = [tvm.runtime.empty(port.shape, str(port.dtype), tvm.cpu()) for port in inputs]
        self._views = [np.from_dlpack(buffer) for buffer in self._buffers]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Raises BadCalibration when an input is missing or has another type or shape."""
        for port, view in zip(self.inputs, self._views, strict=True):
            np.copyto(view, fitting(port, feeds, self._name))
        results = self._main(*self._buffers)
        if len(self.outputs) == 1 and not isinstance(results, list | tuple) and hasattr(results, "numpy"):
            results = [results]
        return {port.name: result.numpy() for port, result in zip(self.outputs, results, strict=True)}
