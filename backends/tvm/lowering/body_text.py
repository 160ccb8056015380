"""What a body written as text may ask of the node it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from lwc.backends.tvm.lowering.expressions import Value, dims_of

OPSET = 23  # of the bodies' operators


class Call:
    """A node with the values that its inputs have."""

    def __init__(self, node: onnx.NodeProto, inputs: Sequence[Value | None]) -> None:
        self.inputs = inputs
        self.outputs = list(node.output)
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    @property
    def count(self) -> int:
        """How many inputs are given, absent ones between them included."""
        return len(self.inputs)

    def has(self, index: int) -> bool:
        """Whether this input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def wants(self, index: int) -> bool:
        """Whether this output is read."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def dims(self, index: int) -> list[Any]:
        """Dimensions of an input. Raises NotImplementedError where its rank is unknown."""
        return dims_of(self.inputs[index])

    def rank(self, index: int) -> int:
        """How many dimensions an input has."""
        return len(self.dims(index))

    def flag(self, name: str) -> bool:
        """An attribute that is 0 or 1, 0 by default."""
        return bool(self._attributes.get(name, 0))

    def number(self, name: str, default: float) -> float:
        """A numeric attribute."""
        return float(self._attributes.get(name, default))

    def integer(self, name: str, default: int) -> int:
        """An integral attribute."""
        return int(self._attributes.get(name, default))

    def numbers(self, name: str) -> list[float]:
        """An attribute that lists numbers."""
        return [float(item) for item in self._attributes.get(name, ())]

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        found = self._attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else str(found)


def function(inputs: str, outputs: str, steps: str) -> str:
    """ONNX text of a function; its attributes are those of the call."""
    return f'<opset_import: ["": {OPSET}], domain: "body"> Body ({inputs}) => ({outputs}) {{\n{steps}\n}}'
