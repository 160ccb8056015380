"""What a model takes and gives, by ONNX's names: runtimes drop inputs without readers and symbols of dimensions.

Kept as JSON beside or inside what a runtime made of the model, so that this runs without the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.backend import Port
from lwc.compiler.core.model import Model


@dataclass(frozen=True)
class Signature:
    """inputs, outputs: in ONNX's order;  frozen: inputs with a default, constants once it is compiled"""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    frozen: frozenset[str]

    @staticmethod
    def of(model: Model) -> Signature:
        """The signature of an ONNX model."""
        graph = model.graph
        return Signature(
            tuple(_port(value) for value in graph.inputs if not value.is_initializer()),
            tuple(_port(value) for value in graph.outputs),
            frozenset(value.name or "" for value in graph.inputs if value.is_initializer()),
        )

    def to_json(self) -> str:
        ports = {key: [_to_json(port) for port in getattr(self, key)] for key in ("inputs", "outputs")}
        return json.dumps({**ports, "frozen": sorted(self.frozen)})

    @staticmethod
    def from_json(text: str) -> Signature:
        """Parse what `to_json` wrote. Raises ValueError, KeyError, TypeError."""
        data = json.loads(text)
        inputs, outputs = (
            tuple(Port(name, np.dtype(dtype), tuple(shape)) for name, dtype, shape in data[key])
            for key in ("inputs", "outputs")
        )
        return Signature(inputs, outputs, frozenset(data["frozen"]))


def _port(value: ir.Value) -> Port:
    known = isinstance(value.type, ir.TensorType) and value.type.dtype != ir.DataType.STRING
    dtype = np.dtype(value.type.dtype.numpy()) if known and value.type is not None else np.dtype(np.object_)
    return Port(value.name or "", dtype, tuple(_dimension(dim) for dim in value.shape or ()))


def _dimension(dim: int | ir.SymbolicDim) -> int | str:
    """Some exporters write -1 for a dynamic dimension."""
    if isinstance(dim, int):
        return dim if dim >= 0 else "?"
    return str(dim.value or "?")


def _to_json(port: Port) -> list[Any]:
    return [port.name, port.dtype.name, list(port.shape)]
