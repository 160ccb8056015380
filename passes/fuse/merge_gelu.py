"""Recognise Gelu where it is written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import constant_number, is_op, new_node, opset, remove, replace_node, site, sole_user

FIRST_WITH_GELU = 20
CLOSE = 1e-4


@dataclass(frozen=True)
class MergeGelu(Pass):
    """x / 2 * (1 + erf(x / sqrt(2))) -> Gelu(x), its three factors in any order.

    float32, opset 20 or newer (no standard operator before); nothing in between may have another reader. ONNX
    Runtime fuses the parts to an operator of its own on loading, at the same speed; written as the standard one
    it is one site for the integer passes. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-gelu"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        if opset(model) < FIRST_WITH_GELU:
            return Outcome()
        for graph in model.graphs():
            for node in graph:
                if is_op(node, "Erf") and _merge(node):
                    changed.append(site(node))
        return Outcome(tuple(changed))


def _merge(erf: ir.Node) -> bool:
    scaled = erf.inputs[0].producer() if erf.inputs[0] is not None else None
    x = _scaled(scaled, 1 / np.sqrt(2)) if scaled is not None and sole_user(scaled.outputs[0]) is erf else None
    plus = sole_user(erf.outputs[0])
    if x is None or scaled is None or plus is None or x.dtype != ir.DataType.FLOAT or not is_op(plus, "Add"):
        return False
    if _other_number(plus, erf.outputs[0]) != 1:
        return False
    product = _product(plus, x)
    if product is None:
        return False
    nodes = [*product, plus, erf, scaled]
    if len({node.graph for node in nodes}) > 1:
        return False
    replace_node(product[0], new_node("Gelu", [x]))
    remove(nodes[1:])
    return True


def _scaled(node: ir.Node, factor: float) -> ir.Value | None:
    """x of x * factor, written as Mul or Div by a constant."""
    if is_op(node, "Div"):
        number = constant_number(node.inputs[1])
        return node.inputs[0] if number and np.isclose(1 / number, factor, rtol=CLOSE) else None
    if is_op(node, "Mul"):
        for k in (0, 1):
            number = constant_number(node.inputs[1 - k])
            if number is not None and np.isclose(number, factor, rtol=CLOSE):
                return node.inputs[k]
    return None


def _other_number(node: ir.Node, value: ir.Value) -> float | None:
    return constant_number(node.inputs[1] if node.inputs[0] is value else node.inputs[0])


def _product(plus: ir.Node, x: ir.Value) -> list[ir.Node] | None:
    """The nodes that multiply with x and with 1/2, the last one first; None when they do not."""
    first = sole_user(plus.outputs[0])
    if first is None or not is_op(first, "Mul", "Div"):
        return None
    if _scaled(first, 0.5) is plus.outputs[0]:
        last = sole_user(first.outputs[0])
        return [last, first] if last is not None and _multiplies(last, first.outputs[0], x) else None
    if _multiplies(first, plus.outputs[0], x):
        last = sole_user(first.outputs[0])
        return [last, first] if last is not None and _scaled(last, 0.5) is first.outputs[0] else None
    other = first.inputs[1] if first.inputs[0] is plus.outputs[0] else first.inputs[0]
    half = other.producer() if other is not None and is_op(first, "Mul") else None
    alone = half is not None and sole_user(half.outputs[0]) is first
    return [first, half] if half is not None and alone and _scaled(half, 0.5) is x else None


def _multiplies(node: ir.Node, a: ir.Value, b: ir.Value) -> bool:
    return is_op(node, "Mul") and a is not b and set(node.inputs) == {a, b}
