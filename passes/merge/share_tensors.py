"""Store nearly equal weights once, as far as a bound allows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import constant, is_float, site

_LEAST = 16  # elements; smaller tensors are scales and shifts, and save nothing
_GLANCE = 64  # elements that are compared before all are


@dataclass(frozen=True)
class ShareTensors(Pass):
    """W1, W2 with max|W1 - W2| <= bound max|W1| -> W1, for float initializers of one shape and type.

    bound: relative to the greatest value of the one that stays, which is the first in the graph's order. Each is
    compared with those that stay, so that errors do not add up along a chain. Bound 0 shares what is equal in value.
    Stays: graph outputs, what a caller can override, tensors below 16 elements. Scope: main graph.
    """

    bound: float = 0.0

    name: ClassVar[str] = "share-tensors"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        """Raises nothing; changed names the nodes that read another tensor now."""
        kept: dict[object, list[_Kept]] = defaultdict(list)
        changed: list[Site] = []
        graph = model.graph
        for name, value in list(graph.initializers.items()):
            array = _weight(value)
            if array is None:
                continue
            others, numbers = kept[array.dtype, array.shape], array.reshape(-1)
            first = next((other.value for other in others if other.is_near(numbers)), None)
            if first is None:
                others.append(_Kept(value, numbers, self.bound * float(np.abs(numbers).max())))
                continue
            changed += [site(node) for node, _ in value.uses()]
            value.replace_all_uses_with(first)
            del graph.initializers[name]
        return Outcome(tuple(dict.fromkeys(changed)))


@dataclass(frozen=True, eq=False)
class _Kept:
    """A tensor that stays. numbers: [n];  allowed: how far those of another may be from them"""

    value: ir.Value
    numbers: NDArray[np.floating]
    allowed: float

    def is_near(self, numbers: NDArray[np.floating]) -> bool:
        """Whether all are; a few are looked at first."""
        step = max(1, numbers.size // _GLANCE)
        pairs = ((numbers[::step], self.numbers[::step]), (numbers, self.numbers))
        return all(np.abs(a.astype(np.float64) - b).max() <= self.allowed for a, b in pairs)


def _weight(value: ir.Value) -> NDArray[np.floating] | None:
    """The array of a float initializer that may be shared."""
    tensor = constant(value)
    if tensor is None or value.is_graph_output() or not tensor.dtype.is_floating_point() or tensor.size < _LEAST:
        return None
    array = tensor.numpy()
    return array if is_float(array) else None
