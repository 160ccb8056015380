"""Store nearly equal weights once, as far as a bound allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
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
        kept: dict[object, list[ir.Value]] = defaultdict(list)
        changed: list[Site] = []
        graph = model.graph
        for name, value in list(graph.initializers.items()):
            array = _weight(value)
            if array is None:
                continue
            others = kept[array.dtype, array.shape]
            first = self._near(array, others)
            if first is None:
                others.append(value)
                continue
            changed += [site(node) for node, _ in value.uses()]
            value.replace_all_uses_with(first)
            del graph.initializers[name]
        return Outcome(tuple(dict.fromkeys(changed)))

    def _near(self, array: NDArray[np.floating], others: Iterable[ir.Value]) -> ir.Value | None:
        """The first of the others that is within the bound."""
        flat = array.reshape(-1)
        step = max(1, flat.size // _GLANCE)
        for other in others:
            first = _weight(other)
            assert first is not None
            allowed = self.bound * float(np.abs(first).max())
            if all(
                np.abs(a.astype(np.float64) - b).max() <= allowed
                for a, b in ((flat[::step], first.reshape(-1)[::step]), (flat, first.reshape(-1)))
            ):
                return other
        return None


def _weight(value: ir.Value) -> NDArray[np.floating] | None:
    """The array of a float initializer that may be shared."""
    tensor = constant(value)
    if tensor is None or value.is_graph_output() or not tensor.dtype.is_floating_point() or tensor.size < _LEAST:
        return None
    array = tensor.numpy()
    return array if is_float(array) else None
