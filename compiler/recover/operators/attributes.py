"""Attributes of a node as the functions of the table read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir


@dataclass(frozen=True)
class Attributes:
    """Attributes by name, each with a default; opset: of the node's domain;  outputs: how many the node names."""

    node: ir.Node
    opset: int

    @property
    def outputs(self) -> int:
        return len(self.node.outputs)

    def integer(self, name: str, default: int = 0) -> int:
        return int(self._value(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.integer(name, int(default)))

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self._value(name, default))

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """A list, or the default where the attribute is left out."""
        found = self._value(name, default)
        return None if found is None else [int(x) for x in found]

    def floats(self, name: str, default: Sequence[float] = ()) -> list[float]:
        return [float(x) for x in self._value(name, default)]

    def text(self, name: str, default: str = "") -> str:
        return _text(self._value(name, default))

    def texts(self, name: str, default: Sequence[str]) -> list[str]:
        return [_text(x) for x in self._value(name, default)]

    def tensor(self, name: str) -> ir.TensorProtocol | None:
        found: ir.TensorProtocol | None = self._value(name, None)
        return found

    def graph(self, name: str) -> ir.Graph:
        return self.node.attributes[name].as_graph()

    def _value(self, name: str, default: Any) -> Any:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
