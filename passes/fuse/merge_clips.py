"""Make one Clip (or Relu) of two in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import Names, add_initializer, is_op, new_node, opset, redirect, remove, replace_node, site
from lwc.passes.fuse.bounds import FIRST_WITH_BOUND_INPUTS, Bounds, bounds_of, largest_of


@dataclass(frozen=True)
class MergeClips(Pass):
    """Clip(Clip(x, a, b), c, d) -> Clip(x, a', b')      a' = clip(a, c, d)      b' = clip(b, c, d)

    with a <= b and c <= d constant, and Relu = Clip to [0, inf]. An outer clip that cuts nothing off goes; the
    inner one stays if others read it. Floats only. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-clips"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        names, version = Names(model), opset(model)
        for graph in model.graphs():
            for node in graph:
                inner = node.inputs[0].producer() if is_op(node, "Clip", "Relu") and node.inputs[0] else None
                if inner is None or inner.graph is not graph:
                    continue
                first, second = bounds_of(inner, version), bounds_of(node, version)
                if first is None or second is None:
                    continue
                low, high = (float(np.clip(bound, *second)) for bound in first)
                if (low, high) == first and redirect(node.outputs[0], inner.outputs[0]):
                    remove(node)
                else:
                    _replace(graph, node, inner, (low, high), version, names)
                changed.append(site(node))
        return Outcome(tuple(changed))


def _replace(graph: ir.Graph, node: ir.Node, inner: ir.Node, bounds: Bounds, version: int, names: Names) -> None:
    value = inner.inputs[0]
    assert value is not None
    assert value.dtype is not None
    largest = largest_of(value.dtype)
    if bounds == (0.0, np.inf):
        replace_node(node, new_node("Relu", [value]))
        return
    if version < FIRST_WITH_BOUND_INPUTS:
        limits = zip(("min", "max"), bounds, strict=True)
        replace_node(node, new_node("Clip", [value], [ir.AttrFloat32(k, b) for k, b in limits if abs(b) < largest]))
        return
    dtype: Any = value.dtype.numpy()
    inputs: list[ir.Value | None] = [value]
    for label, bound in zip(("min", "max"), bounds, strict=True):
        name = f"{node.outputs[0].name}.{label}"
        limits_it = abs(bound) < largest
        inputs.append(add_initializer(graph, names.claim(name), np.array(bound, dtype)) if limits_it else None)
    while inputs[-1] is None:
        inputs.pop()
    replace_node(node, new_node("Clip", inputs))
